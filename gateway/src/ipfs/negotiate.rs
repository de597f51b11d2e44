//! Which format a client wants: `?format=` wins over `Accept`, always (IPIP-523).

use http::HeaderMap;
use http::header;

/// A response format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// What a browser shows: file bytes, a directory page, IPLD documents as they are.
    Default,
    /// One block.
    Raw,
    /// A CAR of the DAG.
    Car,
    /// A TAR of the tree.
    Tar,
    /// A DAG-JSON document.
    DagJson,
    /// A DAG-CBOR document.
    DagCbor,
    /// A JSON document.
    Json,
    /// A CBOR document.
    Cbor,
    /// The signed record of a name.
    IpnsRecord,
    /// A Metalink: where a file is, and the hashes of its pieces.
    Metalink,
}

impl Format {
    /// The media type, without parameters. Empty for [`Format::Default`], which has no single one.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Raw => "application/vnd.ipld.raw",
            Self::Car => "application/vnd.ipld.car",
            Self::Tar => "application/x-tar",
            Self::DagJson => "application/vnd.ipld.dag-json",
            Self::DagCbor => "application/vnd.ipld.dag-cbor",
            Self::Json => "application/json",
            Self::Cbor => "application/cbor",
            Self::IpnsRecord => "application/vnd.ipfs.ipns-record",
            Self::Metalink => "application/metalink4+xml",
        }
    }

    /// The value of `?format=`. Empty for [`Format::Default`].
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Raw => "raw",
            Self::Car => "car",
            Self::Tar => "tar",
            Self::DagJson => "dag-json",
            Self::DagCbor => "dag-cbor",
            Self::Json => "json",
            Self::Cbor => "cbor",
            Self::IpnsRecord => "ipns-record",
            Self::Metalink => "meta4",
        }
    }

    const EXPLICIT: [Self; 9] = [
        Self::Raw,
        Self::Car,
        Self::Tar,
        Self::DagJson,
        Self::DagCbor,
        Self::Json,
        Self::Cbor,
        Self::IpnsRecord,
        Self::Metalink,
    ];

    fn of_word(word: &str) -> Option<Self> {
        Self::EXPLICIT
            .into_iter()
            .find(|format| format.word() == word)
    }

    fn of_media_type(media_type: &str) -> Option<Self> {
        Self::EXPLICIT
            .into_iter()
            .find(|format| format.media_type().eq_ignore_ascii_case(media_type))
    }
}

/// The outcome of the negotiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// The format.
    pub(crate) format: Format,
    /// Whether the URL named it. If not, a cache needs `Content-Location` to tell formats apart.
    pub(crate) from_url: bool,
    /// Parameters of the `Accept` entry that names the same format, such as `dups=y`.
    pub(crate) params: Vec<(String, String)>,
    /// Whether `Accept` holds `text/html` literally.
    pub(crate) html: bool,
}

/// `Accept` asks for an IPLD or IPFS format that nobody defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnknownFormat(pub(crate) String);

/// Chooses the format from the value of `?format=` and the `Accept` headers. The order of `Accept`
/// counts, its weights do not.
pub(crate) fn negotiate(
    word: Option<&str>,
    headers: &HeaderMap,
) -> Result<Negotiated, UnknownFormat> {
    let from_url = word.and_then(Format::of_word);
    let mut accepted: Option<(Format, Vec<(String, String)>)> = None;
    let mut html = false;
    let accept = headers.get_all(header::ACCEPT);
    for entry in accept
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|v| v.split(','))
    {
        let mut parts = entry.split(';');
        let media_type = parts.next().unwrap_or_default().trim();
        html |= media_type.eq_ignore_ascii_case("text/html");
        if accepted.is_some() {
            continue;
        }
        if let Some(format) = Format::of_media_type(media_type) {
            accepted = Some((format, params(parts)));
        } else if from_url.is_none() && is_ours(media_type) {
            return Err(UnknownFormat(media_type.to_owned()));
        }
    }
    Ok(match (from_url, accepted) {
        (Some(format), Some((accepted, params))) if format == accepted => Negotiated {
            format,
            from_url: true,
            params,
            html,
        },
        (Some(format), _) => Negotiated {
            format,
            from_url: true,
            params: Vec::new(),
            html,
        },
        (None, Some((format, params))) => Negotiated {
            format,
            from_url: false,
            params,
            html,
        },
        (None, None) => Negotiated {
            format: Format::Default,
            from_url: false,
            params: Vec::new(),
            html,
        },
    })
}

fn is_ours(media_type: &str) -> bool {
    let lower = media_type.get(..21).map(str::to_ascii_lowercase);
    matches!(
        lower.as_deref(),
        Some("application/vnd.ipld.") | Some("application/vnd.ipfs.")
    )
}

fn params<'a>(parts: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    parts
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| {
            (
                key.trim().to_ascii_lowercase(),
                value.trim().trim_matches('"').to_owned(),
            )
        })
        .filter(|(key, _)| key != "q")
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accept(accept: &str, word: Option<&str>) -> Result<Negotiated, UnknownFormat> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        negotiate(word, &headers)
    }

    fn format(value: &str, word: Option<&str>) -> Format {
        accept(value, word).unwrap().format
    }

    #[test]
    fn url_wins_over_accept() {
        assert_eq!(format("application/vnd.ipld.car", Some("raw")), Format::Raw);
        assert!(accept("application/vnd.ipld.dag-nonsense", Some("raw")).is_ok());
    }

    #[test]
    fn empty_or_unknown_word_counts_as_absent() {
        assert_eq!(format("application/vnd.ipld.car", Some("")), Format::Car);
        assert_eq!(format("*/*", Some("nonsense")), Format::Default);
    }

    #[test]
    fn first_known_entry_of_accept_wins_whatever_its_weight() {
        assert_eq!(
            format(
                "text/html, application/vnd.ipld.raw;q=0.1, application/x-tar;q=0.9",
                None
            ),
            Format::Raw
        );
    }

    #[test]
    fn browser_gets_the_default() {
        let chosen = accept("text/html,application/xhtml+xml,*/*;q=0.8", None).unwrap();
        assert_eq!(chosen.format, Format::Default);
        assert!(chosen.html);
        assert!(!accept("*/*", None).unwrap().html);
    }

    #[test]
    fn unknown_ipld_format_is_refused() {
        assert_eq!(
            accept("application/vnd.ipld.dag-nonsense", None),
            Err(UnknownFormat(
                "application/vnd.ipld.dag-nonsense".to_owned()
            ))
        );
    }

    #[test]
    fn parameters_count_only_for_the_chosen_format() {
        let car = "application/vnd.ipld.car; version=1; order=dfs; dups=y; q=0.5";
        let wanted = [("version", "1"), ("order", "dfs"), ("dups", "y")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(accept(car, None).unwrap().params, wanted);
        assert_eq!(accept(car, Some("car")).unwrap().params, wanted);
        assert!(accept(car, Some("raw")).unwrap().params.is_empty());
    }

    proptest! {
        #[test]
        fn any_accept_header_is_read_without_panic(value in "[ -~]{0,80}") {
            let _chosen = accept(&value, None);
        }
    }
}
