//! Heads of other shops.

use duka_node::keys::Name;
use duka_node::name::NameError;
use duka_node::node::Node;
use futures::FutureExt;

use super::{fetcher, reachable};
use crate::control::event::Outcome;
use crate::control::failure::Failure;
use crate::control::following::{self, Answers, listen};
use crate::control::request::ShopHead;

pub(super) async fn head(node: &Node, args: ShopHead) -> Result<Outcome, Failure> {
    let gateways = reachable(node, &args.gateways)?;
    let source = fetcher(node, gateways.clone());
    let shop = super::name::parse(&args.name)?;
    let listen = listen(args.known.as_ref());
    let asked = gateways.len();
    let ask = |name: Name| {
        let gateways = gateways.clone();
        async move {
            match node.resolve_record(&name, &gateways, listen).await {
                Ok(heard) => Ok(Answers {
                    records: vec![heard.record.bytes],
                    silent: heard.silent,
                }),
                Err(NameError::NotFound { .. }) => Ok(Answers::default()),
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
        asked,
        &ask,
    );
    Ok(Outcome::ShopHead {
        head: head.await?.map(Box::new),
    })
}
