//! The public test data of IPFS gateways, served by `tests/gateway/serve-fixtures`: one table a topic,
//! one case a line of the gateways' checklist.

mod cars;
mod conditions;
mod denied;
mod documents;
mod hosts;
mod names;
mod paths;
mod redirects;
mod tars;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use duka_tests::locate;
use duka_tests::process::Process;
use tempfile::TempDir;

/// A gateway that serves the fixtures.
struct Gateway {
    address: SocketAddr,
    _process: Process,
    _home: TempDir,
}

impl Gateway {
    fn start() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let denylist = home.path().join("fixtures.deny");
        std::fs::write(&denylist, denied::LIST)?;
        let script = locate::repository().join("tests/gateway/serve-fixtures");
        let mut command = Command::new(script);
        command
            .arg(home.path())
            .arg("0")
            .env("DUKA", locate::duka()?)
            .env("DUKA_GATEWAY_DENYLISTS", denylist)
            .env("HOME", home.path())
            .env("XDG_RUNTIME_DIR", home.path());
        let process = Process::start("serve-fixtures", &mut command)?;
        let address = process.wait_for(Duration::from_secs(120), |line| {
            let (_, rest) = line.split_once("ready gateway=http://")?;
            Some(rest.split(' ').next()?.parse())
        })?;
        Ok(Self {
            address: address.context("the address of the gateway")?,
            _process: process,
            _home: home,
        })
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "says why nothing is tested")]
fn every_case_of_the_checklist_holds() {
    let fixtures = locate::repository().join("../shared/gateway/fixtures");
    if !fixtures.is_dir() {
        println!("not tested: {} is missing", fixtures.display());
        return;
    }
    let gateway = Gateway::start().unwrap();
    let cases = [
        paths::cases(),
        conditions::cases(),
        documents::cases(),
        cars::cases(),
        names::cases(),
        denied::cases(),
        hosts::cases(),
        redirects::cases(),
        tars::cases(),
    ]
    .concat();
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| case.check(gateway.address, None).err())
        .map(|error| format!("{error:#}"))
        .collect();
    let (failed, all) = (failures.len(), cases.len());
    assert!(failed == 0, "{failed} of {all}:\n{}", failures.join("\n"));
}
