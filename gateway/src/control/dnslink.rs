//! Where a domain leads to, for commands that work without a node.

use duka_config::GatewayConfig;
use duka_node::dag::path::ContentPath;

use super::failure::{Code, Failure};
use crate::ipfs::dnslink;

/// Looks up the DNSLink of a domain: in the settings, then in the DNS.
///
/// # Errors
/// When it has none, or no DNS server answers.
pub async fn dnslink(domain: &str, config: &GatewayConfig) -> Result<ContentPath, Failure> {
    let domain = domain.to_ascii_lowercase();
    match dnslink::look_up(&domain, &config.dnslink, config.dns_resolver).await {
        Ok(Some(path)) => Ok(path),
        Ok(None) => {
            let message = format!("{domain} has no DNSLink");
            Err(Failure::new(Code::NotFound, message)
                .hint("check the domain, or give the k51… name or the CID"))
        }
        Err(silent) => {
            let message = format!("{domain} could not be looked up: {}", silent.tried);
            Err(Failure::new(Code::Temporary, message)
                .hint("try again, or give the k51… name or the CID"))
        }
    }
}
