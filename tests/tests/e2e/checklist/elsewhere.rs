//! Where the tests are of what the tables cannot show: lines that need a gateway of its own, and what
//! those who mean harm try.

use duka_tests::locate;

const CONTENT: &str = "gateway/src/tests/content.rs";
const LIMITS: &str = "gateway/src/tests/limits.rs";
const TRUNCATED: &str = "gateway/src/tests/truncated.rs";
const REIMPORTED: &str = "gateway/src/tests/reimported.rs";
const FORMATS: &str = "gateway/src/tests/formats.rs";
const CACHING: &str = "gateway/src/tests/caching.rs";
const DENIED: &str = "gateway/src/tests/denied.rs";
const DNS: &str = "gateway/src/tests/dns.rs";
const SITES: &str = "gateway/src/tests/redirects.rs";
const CLIENTS: &str = "gateway/src/tests/threats.rs";
const DAGS: &str = "gateway/src/tests/harmful_dags.rs";
const HOSTS: &str = "gateway/src/tests/harmful_hosts.rs";
const TARS: &str = "gateway/src/tests/tar.rs";
const RECORDS: &str = "node/src/ipns/tests.rs";
const UPSTREAMS: &str = "node/src/source/trustless/tests.rs";

/// Line and clause, file, test.
pub(super) const TESTS: &[(&str, &str, &str)] = &[
    (
        "1.1 HEAD",
        CONTENT,
        "head_has_the_headers_of_get_and_no_body",
    ),
    (
        "1.2 no shard",
        CONTENT,
        "head_of_a_sharded_listing_reads_no_shard_but_to_look_for_an_index",
    ),
    (
        "1.2 no Metalink",
        "gateway/src/tests/metalink.rs",
        "metalink_of_a_file_with_a_hole_is_an_error",
    ),
    (
        "1.5 idle CONNECT",
        "gateway/src/tests/hosts.rs",
        "idle_connection_is_closed_after_a_connect_too",
    ),
    (
        "1.6 any path",
        "gateway/src/ipfs/path.rs",
        "any_path_decodes_to_plain_segments_or_an_error",
    ),
    (
        "1.10 never cached",
        "gateway/src/error.rs",
        "errors_are_not_cacheable",
    ),
    (
        "2.4 denied",
        DENIED,
        "denied_content_is_410_or_451_and_never_cached",
    ),
    (
        "2.4 denied names",
        DENIED,
        "denied_names_and_what_names_lead_to_are_refused",
    ),
    (
        "2.5 429",
        LIMITS,
        "retrievals_over_the_limit_are_429_and_local_hits_are_not_counted",
    ),
    ("2.5 504", LIMITS, "network_that_does_not_answer_is_504"),
    (
        "2.5 502 and 504 of names",
        "gateway/src/error.rs",
        "a_name_that_a_silent_gateway_may_know_is_worth_another_try",
    ),
    (
        "2.5 504 of domains",
        DNS,
        "dns_server_that_does_not_answer_costs_its_time_and_nothing_else",
    ),
    (
        "2.6 recursion",
        DNS,
        "domains_that_lead_to_one_another_are_a_mistake_of_the_request",
    ),
    (
        "4.8 any range",
        CONTENT,
        "any_range_of_a_file_equals_the_slice",
    ),
    (
        "4.8 only needed blocks",
        CONTENT,
        "ranges_beside_a_missing_block_are_served",
    ),
    (
        "4.9 any block",
        TRUNCATED,
        "answer_that_lacks_any_block_never_ends_cleanly",
    ),
    (
        "4.10 HAMT",
        CONTENT,
        "hamt_is_listed_sorted_and_its_files_are_found",
    ),
    (
        "5.1 any list",
        "gateway/src/ipfs/conditional.rs",
        "any_list_is_read_without_panic",
    ),
    (
        "5.3 TTL of the DNS",
        DNS,
        "domain_with_a_dnslink_in_the_dns_is_a_site_for_the_time_of_the_record",
    ),
    (
        "5.3 TTL of a record",
        CACHING,
        "name_is_resolved_and_cached_for_its_ttl",
    ),
    (
        "5.3 giant TTL",
        RECORDS,
        "validity_beyond_year_9999_and_the_longest_ttl_do_not_panic",
    ),
    (
        "5.4 nothing is fetched",
        CACHING,
        "only_if_cached_is_412_for_what_is_not_here",
    ),
    (
        "7.3 any DAG",
        REIMPORTED,
        "any_car_is_imported_as_the_same_dag",
    ),
    (
        "7.4 any DAG",
        REIMPORTED,
        "any_car_is_imported_as_the_same_dag",
    ),
    (
        "7.5 any bytes",
        REIMPORTED,
        "any_car_is_imported_as_the_same_dag",
    ),
    (
        "7.7 any block",
        TRUNCATED,
        "answer_that_lacks_any_block_never_ends_cleanly",
    ),
    (
        "7.7 HTTP/1.0",
        LIMITS,
        "broken_stream_never_ends_cleanly_for_http_1_0",
    ),
    (
        "7.10 names",
        TARS,
        "names_that_are_long_or_not_ascii_are_kept",
    ),
    ("7.10 symlinks", TARS, "tar_of_a_tree_unpacks_to_the_tree"),
    (
        "7.10 escape",
        TARS,
        "name_that_leads_out_of_the_tree_breaks_the_tar_off",
    ),
    (
        "8.1 conformance",
        RECORDS,
        "conformance_records_verify_as_they_should",
    ),
    ("8.1 expired", RECORDS, "expired_record_is_refused"),
    (
        "8.1 V1 and V2",
        RECORDS,
        "v1_fields_must_agree_with_the_signed_data",
    ),
    (
        "8.1 V2 signature",
        RECORDS,
        "record_without_v2_signature_is_refused",
    ),
    ("8.4 TXT", DNS, "first_text_that_is_a_content_path_counts"),
    (
        "9.1 addresses",
        DNS,
        "what_can_be_no_domain_is_not_asked_for",
    ),
    (
        "9.3 TLS",
        "gateway/src/ipfs/host.rs",
        "encrypted_connection_is_https_unless_a_trusted_proxy_says_otherwise",
    ),
    (
        "10.2 what is no rule",
        "gateway/src/ipfs/redirects.rs",
        "what_is_no_rule_is_named",
    ),
    (
        "10.4 an error's page",
        SITES,
        "page_of_an_error_is_whole_whatever_is_asked",
    ),
    // Section 11: what the public suite does not see, and no table above asks.
    (
        "11.6 CAR ETags",
        FORMATS,
        "cars_that_differ_have_different_etags",
    ),
    (
        "11.6 concurrency",
        CLIENTS,
        "flood_over_one_connection_is_429_beyond_the_retrievals",
    ),
    (
        "11.6 big files",
        "tests/tests/e2e/memory.rs",
        "a_file_of_10_gib_takes_no_more_memory_to_serve_than_one_of_10_mib",
    ),
    (
        "11.6 HTML escaping",
        "gateway/src/ipfs/respond/listing.rs",
        "names_cannot_break_out_of_the_page",
    ),
];

/// What is tried, file, test.
const THREATS: &[(&str, &str, &str)] = &[
    (
        "slow headers",
        "tests/tests/e2e/limits.rs",
        "of_500_half_sent_requests_none_is_alive_after_15_s",
    ),
    (
        "slow headers",
        CLIENTS,
        "of_500_half_sent_requests_none_is_alive_after_the_header_time",
    ),
    ("slow readers", CLIENTS, "client_that_takes_no_bytes_is_cut"),
    (
        "floods of requests",
        CLIENTS,
        "flood_over_one_connection_is_429_beyond_the_retrievals",
    ),
    (
        "floods of connections",
        CLIENTS,
        "flood_over_many_connections_waits_its_turn",
    ),
    (
        "floods of host names",
        DNS,
        "flood_of_host_names_asks_only_so_many_questions_at_once",
    ),
    (
        "deep paths",
        "node/src/dag/path/tests.rs",
        "what_is_no_path_is_refused",
    ),
    (
        "DAGs of 1,000,000 levels",
        DAGS,
        "dag_of_a_million_levels_ends_at_the_limit",
    ),
    (
        "64 levels of two equal links",
        DAGS,
        "dag_of_2_to_the_64_visits_goes_at_the_pace_of_its_client_and_ends_with_it",
    ),
    (
        "DAGs that take memory",
        DAGS,
        "file_of_which_too_many_parts_wait_ends_at_the_limit",
    ),
    (
        "HAMTs of absurd width",
        DAGS,
        "hamt_of_an_absurd_width_is_refused",
    ),
    (
        "giant headers and sections of CARs",
        "node/src/dag/car/tests.rs",
        "giant_lengths_are_refused_before_anything_is_allocated",
    ),
    (
        "lengths claimed by DAG-CBOR",
        "node/src/dag/links.rs",
        "claimed_lengths_are_not_allocated",
    ),
    (
        "lengths claimed by DAG-CBOR",
        "node/src/dag/document.rs",
        "claimed_lengths_are_not_allocated",
    ),
    (
        "nesting of documents",
        "node/src/dag/document.rs",
        "deep_nesting_is_an_error_and_no_stack_overflow",
    ),
    (
        "oversized identity CIDs",
        DAGS,
        "identity_cid_that_is_too_long_is_refused",
    ),
    (
        "HTML in names",
        "gateway/src/ipfs/respond/listing.rs",
        "names_cannot_break_out_of_the_page",
    ),
    (
        "HTML in documents",
        "gateway/src/ipfs/respond/document.rs",
        "document_is_dag_json_with_links_that_cannot_break_out",
    ),
    (
        "HTML in errors",
        "gateway/src/error.rs",
        "page_says_what_was_tried_and_escapes_what_the_client_sent",
    ),
    (
        "headers in names",
        "gateway/src/ipfs/headers.rs",
        "file_name_cannot_break_out_of_the_header",
    ),
    (
        "headers in redirects",
        "gateway/src/ipfs/redirects.rs",
        "location_is_always_a_header_value",
    ),
    (
        "paths that leave a TAR",
        TARS,
        "name_that_leads_out_of_the_tree_breaks_the_tar_off",
    ),
    (
        "upstreams with wrong bytes",
        UPSTREAMS,
        "a_liar_is_dropped_and_the_others_are_asked",
    ),
    (
        "upstreams with endless bytes",
        UPSTREAMS,
        "a_body_over_the_limit_is_cut",
    ),
    (
        "upstreams that redirect to private addresses",
        UPSTREAMS,
        "redirects_to_private_addresses_ask_nobody",
    ),
    (
        "rebinding of names",
        UPSTREAMS,
        "a_name_that_is_rebound_to_this_machine_leads_nowhere",
    ),
    (
        "poison for caches in X-Forwarded-Host",
        HOSTS,
        "forwarded_headers_of_a_stranger_change_nothing",
    ),
    (
        "garbage in Host",
        HOSTS,
        "host_that_is_garbage_is_refused_or_nobodys_and_never_repeated",
    ),
    (
        "line breaks in Host",
        HOSTS,
        "line_break_in_a_host_starts_a_header_and_no_answer_repeats_it",
    ),
];

#[test]
fn every_test_that_is_named_is_there() {
    for (what, file, test) in TESTS.iter().chain(THREATS) {
        let source = std::fs::read_to_string(locate::repository().join(file)).unwrap();
        let is_there = source.contains(&format!("fn {test}("));
        assert!(is_there, "{what}: {file} has no test {test}");
    }
}
