//! The gateways' checklist, clause by clause, over trees that are made here: duka is asked beside Kubo,
//! of which status, headers and body are the golden answer. Where Kubo deviates from the specification,
//! what that wants is written out.
//!
//! The first word of a case is its line of the checklist: section, and place in the section. [`elsewhere`]
//! names the tests of what two servers that are asked once cannot show.

mod caching;
mod codecs;
mod elsewhere;
mod formats;
mod hosts;
mod names;
mod negotiation;
mod redirects;
mod request;
mod status;
mod trees;
mod unixfs;

use std::collections::BTreeSet;

use self::trees::Trees;

/// Lines of each section, from the first.
const LINES: [u32; 10] = [10, 7, 4, 11, 4, 6, 11, 4, 7, 5];

#[test]
fn every_line_of_the_checklist_holds() {
    let trees = Trees::start().unwrap();
    let cases = [
        request::cases(&trees),
        status::cases(&trees),
        negotiation::cases(&trees),
        unixfs::cases(&trees),
        caching::cases(&trees),
        codecs::cases(&trees),
        formats::cases(&trees),
        names::cases(&trees),
        hosts::cases(&trees),
        redirects::cases(&trees),
    ]
    .concat();
    let (duka, kubo) = (trees.duka(), trees.kubo());
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| case.check(duka, Some(kubo)).err())
        .map(|error| format!("{error:#}"))
        .collect();
    let (failed, all) = (failures.len(), cases.len());
    assert!(failed == 0, "{failed} of {all}:\n{}", failures.join("\n"));

    let shown = cases.iter().map(|case| case.line());
    let tested: BTreeSet<&str> = shown
        .chain(elsewhere::TESTS.iter().map(|test| test.0))
        .filter_map(|line| line.split(' ').next())
        .collect();
    for (section, lines) in (1..).zip(LINES) {
        for line in 1..=lines {
            let line = format!("{section}.{line}");
            assert!(tested.contains(line.as_str()), "{line} has no test");
        }
    }
}
