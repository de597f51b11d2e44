//! Heads of other shops.

use duka_node::keys::Name;
use duka_node::name::NameError;
use duka_node::node::Node;
use futures::FutureExt;

use super::{fetcher, urls};
use crate::control::event::Outcome;
use crate::control::failure::Failure;
use crate::control::following;
use crate::control::request::ShopHead;

pub(super) async fn head(node: &Node, args: ShopHead) -> Result<Outcome, Failure> {
    let gateways = urls(&args.gateways)?;
    let source = fetcher(node, gateways.clone());
    let shop = super::name::parse(&args.name)?;
    let ask = |name: Name| {
        let gateways = gateways.clone();
        async move {
            match node.resolve_record(&name, &gateways).await {
                Ok(record) => Ok(vec![record.bytes]),
                Err(NameError::NotFound { .. }) => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            }
        }
        .boxed()
    };
    let head = following::head(
        &source,
        &shop,
        args.known.as_ref(),
        args.wanted.as_ref(),
        &ask,
    );
    Ok(Outcome::ShopHead {
        head: head.await?.map(Box::new),
    })
}
