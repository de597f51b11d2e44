;; SHA-256 (FIPS 180-4) of blocks that the caller has padded.
;;
;; Memory: 0 the 64 constants, 256 the message schedule, 512 the state (8 words, set by the caller),
;; 1024 the message. `compress(n)` takes n blocks of 64 bytes in.
(module
  (memory (export "memory") 33)
  (data (i32.const 0)
    "\98\2f\8a\42\91\44\37\71\cf\fb\c0\b5\a5\db\b5\e9"
    "\5b\c2\56\39\f1\11\f1\59\a4\82\3f\92\d5\5e\1c\ab"
    "\98\aa\07\d8\01\5b\83\12\be\85\31\24\c3\7d\0c\55"
    "\74\5d\be\72\fe\b1\de\80\a7\06\dc\9b\74\f1\9b\c1"
    "\c1\69\9b\e4\86\47\be\ef\c6\9d\c1\0f\cc\a1\0c\24"
    "\6f\2c\e9\2d\aa\84\74\4a\dc\a9\b0\5c\da\88\f9\76"
    "\52\51\3e\98\6d\c6\31\a8\c8\27\03\b0\c7\7f\59\bf"
    "\f3\0b\e0\c6\47\91\a7\d5\51\63\ca\06\67\29\29\14"
    "\85\0a\b7\27\38\21\1b\2e\fc\6d\2c\4d\13\0d\38\53"
    "\54\73\0a\65\bb\0a\6a\76\2e\c9\c2\81\85\2c\72\92"
    "\a1\e8\bf\a2\4b\66\1a\a8\70\8b\4b\c2\a3\51\6c\c7"
    "\19\e8\92\d1\24\06\99\d6\85\35\0e\f4\70\a0\6a\10"
    "\16\c1\a4\19\08\6c\37\1e\4c\77\48\27\b5\bc\b0\34"
    "\b3\0c\1c\39\4a\aa\d8\4e\4f\ca\9c\5b\f3\6f\2e\68"
    "\ee\82\8f\74\6f\63\a5\78\14\78\c8\84\08\02\c7\8c"
    "\fa\ff\be\90\eb\6c\50\a4\f7\a3\f9\be\f2\78\71\c6")

  ;; A word as the message has it, the most significant byte first.
  (func $swap (param $x i32) (result i32)
    (i32.or
      (i32.and (i32.rotl (local.get $x) (i32.const 8)) (i32.const 0x00ff00ff))
      (i32.and (i32.rotr (local.get $x) (i32.const 8)) (i32.const 0xff00ff00))))

  (func (export "compress") (param $blocks i32)
    (local $at i32) (local $end i32) (local $t i32) (local $x i32) (local $y i32)
    (local $a i32) (local $b i32) (local $c i32) (local $d i32)
    (local $e i32) (local $f i32) (local $g i32) (local $h i32)
    (local.set $at (i32.const 1024))
    (local.set $end (i32.add (i32.const 1024) (i32.shl (local.get $blocks) (i32.const 6))))
    (block $done (loop $block
      (br_if $done (i32.ge_u (local.get $at) (local.get $end)))

      ;; The schedule: 16 words of the message, then 48 made from those before.
      (local.set $t (i32.const 0))
      (loop $copy
        (i32.store offset=256 (local.get $t)
          (call $swap (i32.load (i32.add (local.get $at) (local.get $t)))))
        (br_if $copy (i32.lt_u (local.tee $t (i32.add (local.get $t) (i32.const 4))) (i32.const 64))))
      (loop $extend
        (local.set $x (i32.load offset=196 (local.get $t)))
        (local.set $y (i32.load offset=248 (local.get $t)))
        (i32.store offset=256 (local.get $t) (i32.add
          (i32.add (i32.load offset=192 (local.get $t)) (i32.load offset=228 (local.get $t)))
          (i32.add
            (i32.xor (i32.xor (i32.rotr (local.get $x) (i32.const 7)) (i32.rotr (local.get $x) (i32.const 18))) (i32.shr_u (local.get $x) (i32.const 3)))
            (i32.xor (i32.xor (i32.rotr (local.get $y) (i32.const 17)) (i32.rotr (local.get $y) (i32.const 19))) (i32.shr_u (local.get $y) (i32.const 10))))))
        (br_if $extend (i32.lt_u (local.tee $t (i32.add (local.get $t) (i32.const 4))) (i32.const 256))))

      (local.set $a (i32.load offset=512 (i32.const 0)))
      (local.set $b (i32.load offset=516 (i32.const 0)))
      (local.set $c (i32.load offset=520 (i32.const 0)))
      (local.set $d (i32.load offset=524 (i32.const 0)))
      (local.set $e (i32.load offset=528 (i32.const 0)))
      (local.set $f (i32.load offset=532 (i32.const 0)))
      (local.set $g (i32.load offset=536 (i32.const 0)))
      (local.set $h (i32.load offset=540 (i32.const 0)))

      ;; 64 rounds, eight in each turn, so that every word is again where it was.
      (local.set $t (i32.const 0))
      (loop $rounds
        ;; round 0
        (local.set $h (i32.add (i32.add (i32.add (local.get $h)
          (i32.xor (i32.xor (i32.rotr (local.get $e) (i32.const 6)) (i32.rotr (local.get $e) (i32.const 11))) (i32.rotr (local.get $e) (i32.const 25))))
          (i32.xor (local.get $g) (i32.and (local.get $e) (i32.xor (local.get $f) (local.get $g)))))
          (i32.add (i32.load offset=0 (local.get $t)) (i32.load offset=256 (local.get $t)))))
        (local.set $d (i32.add (local.get $d) (local.get $h)))
        (local.set $h (i32.add (local.get $h) (i32.add
          (i32.xor (i32.xor (i32.rotr (local.get $a) (i32.const 2)) (i32.rotr (local.get $a) (i32.const 13))) (i32.rotr (local.get $a) (i32.const 22)))
          (i32.or (i32.and (local.get $a) (local.get $b)) (i32.and (local.get $c) (i32.or (local.get $a) (local.get $b)))))))
        ;; round 1
        (local.set $g (i32.add (i32.add (i32.add (local.get $g)
          (i32.xor (i32.xor (i32.rotr (local.get $d) (i32.const 6)) (i32.rotr (local.get $d) (i32.const 11))) (i32.rotr (local.get $d) (i32.const 25))))
          (i32.xor (local.get $f) (i32.and (local.get $d) (i32.xor (local.get $e) (local.get $f)))))
          (i32.add (i32.load offset=4 (local.get $t)) (i32.load offset=260 (local.get $t)))))
        (local.set $c (i32.add (local.get $c) (local.get $g)))
        (local.set $g (i32.add (local.get $g) (i32.add
          (i32.xor (i32.xor (i32.rotr (local.get $h) (i32.const 2)) (i32.rotr (local.get $h) (i32.const 13))) (i32.rotr (local.get $h) (i32.const 22)))
          (i32.or (i32.and (local.get $h) (local.get $a)) (i32.and (local.get $b) (i32.or (local.get $h) (local.get $a)))))))
        ;; round 2
        (local.set $f (i32.add (i32.add (i32.add (local.get $f)
          (i32.xor (i32.xor (i32.rotr (local.get $c) (i32.const 6)) (i32.rotr (local.get $c) (i32.const 11))) (i32.rotr (local.get $c) (i32.const 25))))
          (i32.xor (local.get $e) (i32.and (local.get $c) (i32.xor (local.get $d) (local.get $e)))))
          (i32.add (i32.load offset=8 (local.get $t)) (i32.load offset=264 (local.get $t)))))
        (local.set $b (i32.add (local.get $b) (local.get $f)))
        (local.set $f (i32.add (local.get $f) (i32.add
          (i32.xor (i32.xor (i32.rotr (local.get $g) (i32.const 2)) (i32.rotr (local.get $g) (i32.const 13))) (i32.rotr (local.get $g) (i32.const 22)))
          (i32.or (i32.and (local.get $g) (local.get $h)) (i32.and (local.get $a) (i32.or (local.get $g) (local.get $h)))))))
        ;; round 3
        (local.set $e (i32.add (i32.add (i32.add (local.get $e)
          (i32.xor (i32.xor (i32.rotr (local.get $b) (i32.const 6)) (i32.rotr (local.get $b) (i32.const 11))) (i32.rotr (local.get $b) (i32.const 25))))
          (i32.xor (local.get $d) (i32.and (local.get $b) (i32.xor (local.get $c) (local.get $d)))))
          (i32.add (i32.load offset=12 (local.get $t)) (i32.load offset=268 (local.get $t)))))
        (local.set $a (i32.add (local.get $a) (local.get $e)))
        (local.set $e (i32.add (local.get $e) (i32.add
          (i32.xor (i32.xor (i32.rotr (local.get $f) (i32.const 2)) (i32.rotr (local.get $f) (i32.const 13))) (i32.rotr (local.get $f) (i32.const 22)))
          (i32.or (i32.and (local.get $f) (local.get $g)) (i32.and (local.get $h) (i32.or (local.get $f) (local.get $g)))))))
        ;; round 4
        (local.set $d (i32.add (i32.add (i32.add (local.get $d)
          (i32.xor (i32.xor (i32.rotr (local.get $a) (i32.const 6)) (i32.rotr (local.get $a) (i32.const 11))) (i32.rotr (local.get $a) (i32.const 25))))
          (i32.xor (local.get $c) (i32.and (local.get $a) (i32.xor (local.get $b) (local.get $c)))))
          (i32.add (i32.load offset=16 (local.get $t)) (i32.load offset=272 (local.get $t)))))
        (local.set $h (i32.add (local.get $h) (local.get $d)))
        (local.set $d (i32.add (local.get $d) (i32.add
          (i32.xor (i32.xor (i32.rotr (local.get $e) (i32.const 2)) (i32.rotr (local.get $e) (i32.const 13))) (i32.rotr (local.get $e) (i32.const 22)))
          (i32.or (i32.and (local.get $e) (local.get $f)) (i32.and (local.get $g) (i32.or (local.get $e) (local.get $f)))))))
        ;; round 5
        (local.set $c (i32.add (i32.add (i32.add (local.get $c)
          (i32.xor (i32.xor (i32.rotr (local.get $h) (i32.const 6)) (i32.rotr (local.get $h) (i32.const 11))) (i32.rotr (local.get $h) (i32.const 25))))
          (i32.xor (local.get $b) (i32.and (local.get $h) (i32.xor (local.get $a) (local.get $b)))))
          (i32.add (i32.load offset=20 (local.get $t)) (i32.load offset=276 (local.get $t)))))
        (local.set $g (i32.add (local.get $g) (local.get $c)))
        (local.set $c (i32.add (local.get $c) (i32.add
          (i32.xor (i32.xor (i32.rotr (local.get $d) (i32.const 2)) (i32.rotr (local.get $d) (i32.const 13))) (i32.rotr (local.get $d) (i32.const 22)))
          (i32.or (i32.and (local.get $d) (local.get $e)) (i32.and (local.get $f) (i32.or (local.get $d) (local.get $e)))))))
        ;; round 6
        (local.set $b (i32.add (i32.add (i32.add (local.get $b)
          (i32.xor (i32.xor (i32.rotr (local.get $g) (i32.const 6)) (i32.rotr (local.get $g) (i32.const 11))) (i32.rotr (local.get $g) (i32.const 25))))
          (i32.xor (local.get $a) (i32.and (local.get $g) (i32.xor (local.get $h) (local.get $a)))))
          (i32.add (i32.load offset=24 (local.get $t)) (i32.load offset=280 (local.get $t)))))
        (local.set $f (i32.add (local.get $f) (local.get $b)))
        (local.set $b (i32.add (local.get $b) (i32.add
          (i32.xor (i32.xor (i32.rotr (local.get $c) (i32.const 2)) (i32.rotr (local.get $c) (i32.const 13))) (i32.rotr (local.get $c) (i32.const 22)))
          (i32.or (i32.and (local.get $c) (local.get $d)) (i32.and (local.get $e) (i32.or (local.get $c) (local.get $d)))))))
        ;; round 7
        (local.set $a (i32.add (i32.add (i32.add (local.get $a)
          (i32.xor (i32.xor (i32.rotr (local.get $f) (i32.const 6)) (i32.rotr (local.get $f) (i32.const 11))) (i32.rotr (local.get $f) (i32.const 25))))
          (i32.xor (local.get $h) (i32.and (local.get $f) (i32.xor (local.get $g) (local.get $h)))))
          (i32.add (i32.load offset=28 (local.get $t)) (i32.load offset=284 (local.get $t)))))
        (local.set $e (i32.add (local.get $e) (local.get $a)))
        (local.set $a (i32.add (local.get $a) (i32.add
          (i32.xor (i32.xor (i32.rotr (local.get $b) (i32.const 2)) (i32.rotr (local.get $b) (i32.const 13))) (i32.rotr (local.get $b) (i32.const 22)))
          (i32.or (i32.and (local.get $b) (local.get $c)) (i32.and (local.get $d) (i32.or (local.get $b) (local.get $c)))))))
        (br_if $rounds (i32.lt_u (local.tee $t (i32.add (local.get $t) (i32.const 32))) (i32.const 256))))

      (i32.store offset=512 (i32.const 0) (i32.add (local.get $a) (i32.load offset=512 (i32.const 0))))
      (i32.store offset=516 (i32.const 0) (i32.add (local.get $b) (i32.load offset=516 (i32.const 0))))
      (i32.store offset=520 (i32.const 0) (i32.add (local.get $c) (i32.load offset=520 (i32.const 0))))
      (i32.store offset=524 (i32.const 0) (i32.add (local.get $d) (i32.load offset=524 (i32.const 0))))
      (i32.store offset=528 (i32.const 0) (i32.add (local.get $e) (i32.load offset=528 (i32.const 0))))
      (i32.store offset=532 (i32.const 0) (i32.add (local.get $f) (i32.load offset=532 (i32.const 0))))
      (i32.store offset=536 (i32.const 0) (i32.add (local.get $g) (i32.load offset=536 (i32.const 0))))
      (i32.store offset=540 (i32.const 0) (i32.add (local.get $h) (i32.load offset=540 (i32.const 0))))
      (local.set $at (i32.add (local.get $at) (i32.const 64)))
      (br $block))))
)
