//! The head of somebody else's shop: heard from several places, the newest valid one taken, checked
//! against what is known of the shop.

use std::collections::BTreeSet;

use duka_node::keys::Name;
use duka_node::shop::follow::{FollowError, Followed, Freshness, Refused};
use duka_node::shop::hear::{self, Heard};
use duka_node::shop::read::ReadError;
use duka_node::source::BlockSource;
use duka_node::source::trustless::Listen;
use futures::future::BoxFuture;
use jiff::Timestamp;
use url::Url;

use super::event::ShopHead;
use super::failure::{Code, Failure};
use super::release::{self, Wanted};

/// What those who were asked say of a name.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Their records, not verified.
    pub records: Vec<Vec<u8>>,
    /// Gateways that did not answer.
    pub silent: Vec<Url>,
}

/// Asks for the records of a name; none is no failure.
pub type Ask<'a> = dyn Fn(Name) -> BoxFuture<'a, Result<Answers, Failure>> + Send + Sync + 'a;

/// Whoever knows nothing of a shop cannot tell an old head from the newest: all are listened to.
pub fn listen(known: Option<&Followed>) -> Listen {
    match known {
        Some(_) => Listen::Briefly,
        None => Listen::ToAll,
    }
}

/// The newest head of `shop` that is not refused, and the release that is wanted of it, where so many gateways
/// are asked. `None` when the name is not that of a shop.
///
/// # Errors
/// [`Code::Signature`] when what is offered is refused; when nobody was heard and nothing is known, why.
pub async fn head<S: BlockSource + Clone>(
    source: &S,
    shop: &Name,
    known: Option<&Followed>,
    wanted: Option<&Wanted>,
    asked: usize,
    ask: &Ask<'_>,
) -> Result<Option<ShopHead>, Failure> {
    let now = Timestamp::now();
    let found = match find(source, shop, known, ask, now).await {
        Ok(found) => found,
        Err(Failed::NoShop) => return Ok(None),
        Err(Failed::For(failure)) => return Err(failure),
    };
    let mut warnings: Vec<String> = found.refused.iter().map(refused_of_others).collect();
    if !found.silent.is_empty() {
        let silent = found.silent.len();
        warnings.push(format!(
            "{silent} of {asked} gateways did not answer: there may be a newer head of {shop}"
        ));
    }
    if found.is_unheard {
        let seq = found.followed.seq;
        warnings.push(format!(
            "nobody who was asked has a record of {shop}: head {seq} is used, which is known"
        ));
    }
    if let Freshness::Stale { signed } = found.followed.freshness(now) {
        warnings.push(format!(
            "the head of {shop} is stale: it was last signed at {signed}. Either its owner is silent, or \
             newer ones are held back"
        ));
    }
    let chosen = match wanted {
        Some(wanted) => Some(release::choose(source, found.followed.root, wanted).await?),
        None => None,
    };
    if let Some(chosen) = chosen.as_ref().filter(|chosen| chosen.is_yanked) {
        let (product, version) = (&chosen.product, &chosen.version);
        warnings.push(format!("{product} {version} was yanked by its creator"));
    }
    let head = found.head;
    Ok(Some(ShopHead {
        name: shop.to_string(),
        title: head.as_ref().map(|head| head.title.clone()),
        gateways: head.map(|head| [head.gateways, head.mirrors].concat()),
        followed: found.followed,
        chosen,
        warnings,
    }))
}

struct Found {
    followed: Followed,
    head: Option<duka_node::shop::json::ShopJson>,
    refused: Vec<Refused>,
    is_unheard: bool,
    /// Gateways that did not answer.
    silent: BTreeSet<Url>,
}

enum Failed {
    NoShop,
    For(Failure),
}

async fn find<S: BlockSource + Clone>(
    source: &S,
    shop: &Name,
    known: Option<&Followed>,
    ask: &Ask<'_>,
    now: Timestamp,
) -> Result<Found, Failed> {
    let of_error = |error: FollowError| match error {
        FollowError::Refused(Refused::NoShop { .. })
        | FollowError::Read(ReadError::NoShop { .. })
            if known.is_none() =>
        {
            Failed::NoShop
        }
        FollowError::Refused(refused) => Failed::For(refusal(shop, &refused)),
        other => Failed::For(other.into()),
    };
    // Who is known can be had without being heard of again.
    let heard_of = |name: Name| async {
        match ask(name).await {
            Err(_) if known.is_some() => Ok(Answers::default()),
            asked => asked.map_err(Failed::For),
        }
    };
    let Answers { records, silent } = heard_of(shop.clone()).await?;
    let mut all_silent: BTreeSet<Url> = silent.into_iter().collect();
    let key = hear::newest_key(shop, known, &records, now);
    let Some(key) = key.map_err(|refused| of_error(refused.into()))? else {
        let message = format!("nobody who was asked has a record of {shop}");
        let failure = Failure::new(Code::NotFound, message);
        return Err(Failed::For(
            failure.hint("check the name, or ask another gateway with --mirror URL"),
        ));
    };
    let Answers { records, silent } = heard_of(key.publishing.clone()).await?;
    all_silent.extend(silent);
    let silent = all_silent;
    let heard = hear::newest_head(source, shop, known, &key, &records, now);
    match (heard.await.map_err(of_error)?, known) {
        (
            Some(Heard {
                followed,
                head,
                refused,
            }),
            _,
        ) => Ok(Found {
            followed,
            head,
            refused,
            is_unheard: false,
            silent,
        }),
        (None, Some(known)) if known.freshness(now) != Freshness::Expired => Ok(Found {
            followed: known.clone(),
            head: None,
            refused: Vec::new(),
            is_unheard: true,
            silent,
        }),
        (None, _) => {
            let message = format!("nobody who was asked has a head of {shop} that is still valid");
            let failure = Failure::new(Code::Temporary, message);
            Err(Failed::For(failure.hint(
                "try again, or ask another gateway with --mirror URL",
            )))
        }
    }
}

fn refusal(shop: &Name, refused: &Refused) -> Failure {
    let failure = Failure::of(Code::Signature, refused);
    let message = format!(
        "what is offered as the shop {shop} is refused: {}",
        failure.message
    );
    Failure::new(Code::Signature, message).hint(
        "somebody may be serving a false or an old copy: ask another gateway with --mirror URL, or the \
         shop's owner",
    )
}

fn refused_of_others(refused: &Refused) -> String {
    let message = Failure::of(Code::Signature, refused).message;
    format!("another head was offered and refused: {message}")
}
