//! A data directory on a disk that can only be read.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Home, finish};

/// Runs `duka` where nothing below `dir` can be written, in a name space of its own.
fn read_only(home: &Home, dir: &Path, arguments: &[&str]) -> Command {
    let duka = home.command();
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"")
        .arg(dir)
        .arg(duka.get_program())
        .args(arguments)
        .current_dir(home.path());
    for (name, value) in duka.get_envs() {
        command.env(name, value.unwrap());
    }
    command
}

#[test]
#[expect(clippy::print_stderr, reason = "says what was left out")]
fn it_is_said_what_can_be_done() {
    let home = Home::new();
    fs::write(home.path().join("file"), "content").unwrap();
    let added = home.run(&["--offline", "add", "file"]);
    assert_eq!(added.code, 0, "{}", added.stderr);
    let data_dir = home.path().join(".local/share/duka");
    let can_mount = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"")
        .arg(&data_dir)
        .output();
    if !can_mount.is_ok_and(|mounted| mounted.status.success()) {
        eprintln!("left out: no name space for mounts");
        return;
    }
    for arguments in [&["--offline", "pin", "ls"][..], &["--offline", "fsck"]] {
        let refused = finish(&mut read_only(&home, &data_dir, arguments));
        assert_eq!(refused.code, 6, "{}", refused.stderr);
        assert!(
            refused.stderr.contains("copy it to another disk"),
            "{}",
            refused.stderr
        );
    }
}
