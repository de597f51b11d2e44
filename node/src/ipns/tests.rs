use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// `ipfs key export --format=libp2p-protobuf-cleartext` of a key made for this test, Kubo 0.43.
const KEY: &str = "\
    0801124020df5e2b3096f3dd8e3d16acd368a2c8287903d57c341b662c154ff12fbba62f629420364000c371c3\
    396f439178e485da6a5d3ee782c4a6cba8df58937eba8c";
const NAME: &str = "k51qzi5uqu5din1fzgppghdhrbw1ijlkaj8n70ld7z4uh6erh9l2a2e1lg6j64";
/// What `ipfs name publish --lifetime 8760h --ttl 5m` made with it, from `ipfs name get`.
const RECORD: &str = "\
    0a412f697066732f6261666b726569656973667967733633696265376e6867746a72677767757832746575716d\
    6d34756f666f7a657763617179787a7672706b34336d1240091079f58f80d549cb17807368ca238d6c3d24ab1b\
    3422ad6a7e253e458a01d3b5c6eb69617908cd42256d2b8d6a591f8fac7c02837bef9f426d62692d26260e1800\
    221e323032372d31312d32315430373a33353a33392e3734393434363438395a28003080f092cbdd084240cc9b\
    348a4e1430f97cc9d2fe2c147814fc1c0b15fc5ff84cdf3cedc00d695ddea7512bb2275f9a305f50f83c68cc82\
    007f7fdb76b4b12138c7a01db4d521a4034a9801a56354544c1b00000045d964b8006556616c756558412f6970\
    66732f6261666b726569656973667967733633696265376e6867746a72677767757832746575716d6d34756f66\
    6f7a657763617179787a7672706b34336d6853657175656e6365006856616c6964697479581e323032372d3131\
    2d32315430373a33353a33392e3734393434363438395a6c56616c69646974795479706500";
const VALUE: &str = "/ipfs/bafkreieisfygs63ibe7nhgtjrgwgux2teuqmm4uofozewcaqyxzvrpk43m";
const VALIDITY: &str = "2027-11-21T07:35:39.749446489Z";

fn key() -> Keypair {
    Keypair::from_protobuf_encoding(&hex::decode(KEY).unwrap()).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    time("2026-11-21T00:00:00Z")
}

fn signed(sequence: u64, validity: &str) -> Record {
    sign(
        &key(),
        VALUE,
        sequence,
        time(validity),
        Duration::from_secs(300),
    )
}

/// `signed` with its protobuf fields changed.
fn changed(change: impl FnOnce(&mut Entry)) -> Vec<u8> {
    let mut entry = Entry::decode(signed(7, VALIDITY).bytes.as_slice()).unwrap();
    change(&mut entry);
    entry.encode_to_vec()
}

fn check(bytes: &[u8]) -> Result<Record, RecordError> {
    verify(&NAME.parse().unwrap(), bytes, now())
}

#[test]
fn signed_record_is_byte_for_byte_that_of_kubo() {
    let record = signed(0, VALIDITY);
    assert_eq!(hex::encode(&record.bytes), RECORD);
    assert_eq!(name_of(&key()).to_string(), NAME);
}

#[test]
fn record_of_kubo_verifies() {
    let record = check(&hex::decode(RECORD).unwrap()).unwrap();
    assert_eq!(record, signed(0, VALIDITY));
}

#[test]
fn record_is_refused_under_another_name() {
    let other = name_of(&Keypair::generate_ed25519());
    let bytes = signed(1, VALIDITY).bytes;
    assert_eq!(verify(&other, &bytes, now()), Err(RecordError::Signature));
    let embedded = changed(|e| e.public_key = Some(key().public().encode_protobuf()));
    assert!(check(&embedded).is_ok());
    assert_eq!(
        verify(&other, &embedded, now()),
        Err(RecordError::Signature)
    );
}

#[test]
fn expired_record_is_refused() {
    let validity = time(VALIDITY);
    let bytes = signed(1, VALIDITY).bytes;
    let name: Name = NAME.parse().unwrap();
    assert!(verify(&name, &bytes, validity).is_ok());
    let later = validity + Duration::from_nanos(1);
    assert_eq!(
        verify(&name, &bytes, later),
        Err(RecordError::Expired(validity))
    );
}

#[test]
fn v1_fields_must_agree_with_the_signed_data() {
    let malformed = |change: fn(&mut Entry)| {
        let result = check(&changed(change));
        assert!(
            matches!(result, Err(RecordError::Malformed(_))),
            "{result:?}"
        );
    };
    malformed(|e| e.value = Some(b"/ipfs/other".to_vec()));
    malformed(|e| e.sequence = Some(8));
    malformed(|e| e.ttl = None);
    malformed(|e| e.validity = None);
    malformed(|e| e.validity_type = Some(1));
    let v2_only = changed(|e| {
        *e = Entry {
            signature_v2: e.signature_v2.take(),
            data: e.data.take(),
            ..Entry::default()
        }
    });
    assert_eq!(check(&v2_only).unwrap().sequence, 7);
}

#[test]
fn record_without_v2_signature_is_refused() {
    let result = check(&changed(|e| e.signature_v2 = None));
    assert!(matches!(result, Err(RecordError::Malformed(_))));
}

#[test]
fn record_over_10_kib_is_refused() {
    let mut bytes = signed(1, VALIDITY).bytes;
    // An unknown field (number 15, bytes) is allowed, as long as the limit holds.
    let padding = vec![0; MAX_RECORD_LEN];
    bytes.push(0x7a);
    prost::encoding::encode_varint(padding.len() as u64, &mut bytes);
    bytes.extend(padding);
    assert!(matches!(check(&bytes), Err(RecordError::Malformed(_))));
}

#[test]
fn validity_beyond_year_9999_and_the_longest_ttl_do_not_panic() {
    let record = sign(&key(), VALUE, u64::MAX, Timestamp::MAX, Duration::MAX);
    assert_eq!(
        check(&record.bytes).unwrap().ttl,
        Duration::from_nanos(u64::MAX)
    );
    let far = Data {
        ttl: None,
        value: VALUE.as_bytes().to_vec(),
        sequence: 1,
        validity: b"10000-01-01T00:00:00Z".to_vec(),
        validity_type: EOL,
    };
    let cbor = serde_ipld_dagcbor::to_vec(&far).unwrap();
    let signature = key().sign(&[SIGNATURE_PREFIX, &cbor].concat()).unwrap();
    let entry = Entry {
        signature_v2: Some(signature),
        data: Some(cbor),
        ..Entry::default()
    };
    let result = check(&entry.encode_to_vec());
    assert!(matches!(result, Err(RecordError::Malformed(_))));
}

#[test]
fn higher_sequence_wins_then_later_validity() {
    let (early, late) = ("2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z");
    assert!(newer(&signed(2, early), &signed(1, late)));
    assert!(newer(&signed(2, late), &signed(2, early)));
    assert!(!newer(&signed(2, early), &signed(2, early)));
}

/// The records of the gateway conformance suite, when they lie beside the repository.
#[test]
fn conformance_records_verify_as_they_should() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/gateway/fixtures");
    let Ok(files) = fs::read_dir(&fixtures) else {
        let line = "no gateway fixtures beside the repository: their records are not checked\n";
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
        return;
    };
    const INVALID: [&str; 3] = [
        "k51qzi5uqu5diamp7qnnvs1p1gzmku3eijkeijs3418j23j077zrkok63xdm8c",
        "k51qzi5uqu5dlmit2tuwdvnx4sbnyqgmvbxftl0eo3f33wwtb9gr7yozae9kpw",
        "k51qzi5uqu5dm4tm0wt8srkg9h9suud4wuiwjimndrkydqm81cqtlb5ak6p7ku",
    ];
    let mut checked = 0;
    for file in files {
        let path = file.unwrap().path();
        let Some(stem) = path.to_str().and_then(|p| p.strip_suffix(".ipns-record")) else {
            continue;
        };
        let stem = Path::new(stem).file_name().unwrap().to_str().unwrap();
        let name = stem.split('_').next().unwrap();
        let bytes = fs::read(&path).unwrap();
        let result = verify(&name.parse().unwrap(), &bytes, now());
        assert_eq!(
            result.is_err(),
            INVALID.contains(&name),
            "{name}: {result:?}"
        );
        checked += 1;
    }
    assert_eq!(checked, 12);
}

proptest! {
    #[test]
    fn changed_bytes_never_verify_as_something_else(
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let original = check(&hex::decode(RECORD).unwrap()).unwrap();
        let mut bytes = original.bytes.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(record) = check(&bytes) {
            prop_assert_eq!((&record.value, record.sequence), (&original.value, 0));
            prop_assert_eq!((record.validity, record.ttl), (original.validity, original.ttl));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(check(&bytes).is_err());
    }
}
