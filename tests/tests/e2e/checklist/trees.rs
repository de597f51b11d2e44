//! What both gateways serve, made by Kubo: files, folders, documents, names and hosts.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use duka_tests::curl::curl;
use duka_tests::duka::Options;
use duka_tests::kubo::{self, Kubo};
use duka_tests::{Duka, car, files};
use serde_json::json;

use crate::{Pair, add};

/// Bytes of a part of a file.
pub(super) const PART: usize = 1 << 20;

/// The roots and names, and who serves them.
pub(super) struct Trees {
    /// A folder with everything that a folder can hold.
    pub(super) root: String,
    /// Files with `_redirects`, and one with a mistake in it.
    pub(super) site: String,
    pub(super) broken_site: String,
    /// `big.bin` and its parts.
    pub(super) big: [String; 5],
    /// `hello.txt`, by itself and in other spellings.
    pub(super) hello: String,
    pub(super) hello_v0: String,
    pub(super) hello_sha512: String,
    /// A file of three parts of which the second is missing.
    pub(super) hole: String,
    /// A folder of which a name leads out of it.
    pub(super) escape: String,
    /// Documents, each with a `link` to the folder, a `value` and a `list`.
    pub(super) dag_cbor: String,
    pub(super) dag_json: String,
    /// Documents without links.
    pub(super) cbor: String,
    pub(super) json: String,
    /// Names: of `root/docs`, of that name, of the DAG-CBOR document, and of `root` with a giant TTL.
    pub(super) name: String,
    pub(super) name_of_name: String,
    pub(super) name_of_document: String,
    pub(super) name_for_long: String,
    pair: Pair,
}

/// Domains, and where they lead to.
pub(super) const SITE: &str = "site.example";
pub(super) const REDIRECTS: &str = "my-redirects.example";
pub(super) const NAMED: &str = "named.example";
pub(super) const OTHER: &str = "other.example";

impl Trees {
    pub(super) fn start() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let at = |name: &str| home.path().join(name);
        let kubo = Kubo::init(kubo::Options {
            offline: true,
            ..kubo::Options::default()
        })?;
        write_tree(&at("tree"))?;
        write_site(&at("site"))?;
        write_broken_site(&at("broken"))?;
        let root = kubo.add(&at("tree"))?;
        let exported = ["dag", "export", "--progress=false"];
        let export = |root: &str| {
            Ok::<_, anyhow::Error>(kubo.run_ok(&[&exported[..], &[root]].concat())?.stdout)
        };
        let big = car::cids(&export(&kubo.add(&at("tree/big.bin"))?)?)?;
        let big: Vec<String> = big.iter().map(ToString::to_string).collect();
        let big = big
            .try_into()
            .ok()
            .context("a file of four parts has other blocks")?;
        let site = kubo.add(&at("site"))?;
        let broken_site = kubo.add(&at("broken"))?;
        let put = |name: &str, bytes: &str, arguments: &[&str]| {
            fs::write(at(name), bytes)?;
            kubo.ok(&[arguments, &[at(name).to_str().context("a path")?]].concat())
        };
        let add_as = |arguments: &[&str]| {
            let arguments = [&["add", "--quieter", "--progress=false"], arguments].concat();
            put("hello", "hello\n", &arguments)
        };
        let hello = add_as(&[])?;
        let hello_v0 = add_as(&["--cid-version=0", "--raw-leaves=false"])?;
        let hello_sha512 = add_as(&["--hash=sha2-512"])?;
        let document = json!({ "link": { "/": root }, "list": [{ "/": hello }, 7], "value": 1 });
        let document = document.to_string();
        let dag_put = |codec: &str| {
            let codec = format!("--store-codec={codec}");
            put(
                "document",
                &document,
                &["dag", "put", "--input-codec=dag-json", &codec],
            )
        };
        let dag_cbor = dag_put("dag-cbor")?;
        let dag_json = dag_put("dag-json")?;
        let block_put = |codec: &str, bytes: &str| {
            let codec = format!("--cid-codec={codec}");
            put("block", bytes, &["block", "put", &codec])
        };
        let cbor = block_put("cbor", "\x63abc")?;
        let json = block_put("json", "{\"a\": [1, 2]}")?;
        let folder = json!({
            "Data": { "/": { "bytes": "CAE" } },
            "Links": [{ "Hash": { "/": hello }, "Name": "../../evil", "Tsize": 6 }],
        });
        let as_folder = [
            "dag",
            "put",
            "--input-codec=dag-json",
            "--store-codec=dag-pb",
        ];
        let escape = put("escape", &folder.to_string(), &as_folder)?;

        fs::write(at("hole.bin"), files::random_bytes(3, 3 * PART))?;
        let hole = kubo.add(&at("hole.bin"))?;
        let whole = export(&hole)?;
        let [_, _, missing, _] = car::cids(&whole)?[..] else {
            anyhow::bail!("a file of three parts has other blocks");
        };
        kubo.ok(&["pin", "rm", &hole])?;
        kubo.ok(&["block", "rm", &missing.to_string()])?;
        fs::write(at("hole.car"), car::without(&whole, &missing)?)?;

        let named = |key: &str, ttl: &str, path: &str| {
            let name = kubo.ok(&["key", "gen", key])?;
            let (key, ttl) = (format!("--key={key}"), format!("--ttl={ttl}"));
            let forever = "--lifetime=876600h";
            kubo.ok(&[
                "name",
                "publish",
                "--allow-offline",
                &key,
                &ttl,
                forever,
                path,
            ])?;
            Ok::<_, anyhow::Error>(name)
        };
        let name = named("name", "30m", &format!("/ipfs/{root}/docs"))?;
        let name_of_name = named("name-of-name", "1h", &format!("/ipns/{name}"))?;
        let name_of_document = named("name-of-document", "30m", &format!("/ipfs/{dag_cbor}"))?;
        let name_for_long = named("name-for-long", "876600h", &format!("/ipfs/{root}"))?;
        let names = [&name, &name_of_name, &name_of_document, &name_for_long];

        let dnslinks = [
            (SITE, format!("/ipfs/{root}")),
            (REDIRECTS, format!("/ipfs/{site}")),
            (NAMED, format!("/ipns/{name}")),
            (OTHER, format!("/ipns/{SITE}/docs")),
        ];
        let kubo = serving(kubo, &dnslinks)?;
        let duka = Duka::with(&options(&dnslinks))?;
        ensure!(
            add(&duka, &at("tree"))? == root,
            "duka makes another tree than Kubo"
        );
        for root in [
            &site,
            &broken_site,
            &hello,
            &hello_v0,
            &hello_sha512,
            &dag_cbor,
            &dag_json,
            &cbor,
            &json,
            &escape,
        ] {
            let exported = kubo.run_ok(&["dag", "export", "--progress=false", root])?;
            fs::write(at("export.car"), exported.stdout)?;
            import(&duka, &at("export.car"))?;
        }
        import(&duka, &at("hole.car"))?;
        for name in names {
            let record = format!("{}/ipns/{name}?format=ipns-record", kubo.gateway()?);
            fs::write(at("record"), curl(&record, &[])?.body)?;
            duka.ok(&[
                "--offline",
                "name",
                "put",
                name,
                at("record").to_str().context("a path")?,
            ])?;
        }
        let node = duka.start(&["--offline", "serve"])?;
        Ok(Self {
            root,
            site,
            broken_site,
            big,
            hello,
            hello_v0,
            hello_sha512,
            hole,
            escape,
            dag_cbor,
            dag_json,
            cbor,
            json,
            name,
            name_of_name,
            name_of_document,
            name_for_long,
            pair: Pair { kubo, node, duka },
        })
    }

    /// Where duka's gateway is.
    pub(super) fn duka(&self) -> SocketAddr {
        address(&self.pair.node.gateway().unwrap())
    }

    /// Where Kubo's gateway is.
    pub(super) fn kubo(&self) -> SocketAddr {
        address(&self.pair.kubo.gateway().unwrap())
    }

    /// `/ipfs/<root>/…`
    pub(super) fn path(&self, below: &str) -> String {
        format!("/ipfs/{}/{below}", self.root)
    }
}

fn address(gateway: &str) -> SocketAddr {
    gateway.trim_start_matches("http://").parse().unwrap()
}

fn import(duka: &Duka, car: &Path) -> Result<()> {
    let car = car.to_str().context("a path")?;
    duka.ok(&["car", "import", "--no-pin", car]).map(drop)
}

/// Kubo's daemon with the hosts that [`options`] has for duka.
fn serving(mut kubo: Kubo, dnslinks: &[(&str, String)]) -> Result<Kubo> {
    let both = json!(["/ipfs", "/ipns"]);
    kubo.change_config(|config| {
        config["Gateway"]["PublicGateways"] = json!({
            "gw.example": { "Paths": both, "UseSubdomains": true, "InlineDNSLink": true },
            "dots.example": { "Paths": both, "UseSubdomains": true, "InlineDNSLink": false },
            "half.example": { "Paths": ["/ipfs"], "UseSubdomains": false },
            "strict.example": { "Paths": both, "UseSubdomains": false, "DeserializedResponses": false },
            "*.wild.example": { "Paths": both, "UseSubdomains": true, "InlineDNSLink": true },
        });
    })?;
    let links = dnslinks
        .iter()
        .map(|(domain, path)| format!("{domain}:{path}"));
    let map = links.collect::<Vec<_>>().join(",");
    kubo.start_with(&[("IPFS_NS_MAP", &map)])?;
    Ok(kubo)
}

fn options(dnslinks: &[(&str, String)]) -> Options {
    let links = dnslinks
        .iter()
        .map(|(domain, path)| format!("{domain:?} = {path:?}\n"));
    let links: String = links.collect();
    Options {
        more: format!(
            "offline = true\n\n[gateway.dnslink]\n{links}\n[gateway.hosts]\n\
             \"gw.example\" = {{ subdomains = true, inline_dnslink = true }}\n\
             \"dots.example\" = {{ subdomains = true }}\n\
             \"half.example\" = {{ paths = [\"/ipfs\"] }}\n\
             \"strict.example\" = {{ trustless_only = true }}\n\
             \"*.wild.example\" = {{ subdomains = true, inline_dnslink = true }}\n"
        ),
        ..Options::default()
    }
}

fn write_tree(at: &Path) -> Result<()> {
    for folder in [
        "docs",
        "ąę",
        "odd/index.html",
        "page",
        "ipfs",
        "many",
        "same",
    ] {
        fs::create_dir_all(at.join(folder))?;
    }
    let write = |name: &str, bytes: &[u8]| fs::write(at.join(name), bytes);
    write("hello.txt", b"hello\n")?;
    write("numbers.txt", b"0123456789abcdefghijklmnopqrstu")?;
    write("empty", b"")?;
    write("big.bin", &files::random_bytes(7, 3 * PART + 11))?;
    write("data.json", b"{\"a\": 1}")?;
    write("data-without-a-name", b"{\"a\": 1}")?;
    write("a b+c%2Fd.txt", b"odd name")?;
    write("<script>\"'&.txt", b"harmful name")?;
    write("ąę/file-źł.txt", b"far\n")?;
    write("docs/a.txt", b"a")?;
    write("docs/b.txt", b"b")?;
    write("page/index.html", b"<h1>page</h1>")?;
    write("odd/index.html/x", b"x")?;
    write("ipfs/file.txt", b"no namespace")?;
    write("same/one", b"one and the same")?;
    write("same/two", b"one and the same")?;
    symlink("hello.txt", at.join("link"))?;
    for number in 0..1200 {
        // Names so long that the folder becomes a HAMT.
        write(&format!("many/{number:04}{}", "-".repeat(200)), b"same")?;
    }
    Ok(())
}

fn write_site(at: &Path) -> Result<()> {
    fs::create_dir_all(at.join("docs"))?;
    let write = |name: &str, text: &str| fs::write(at.join(name), text);
    for page in ["index", "one", "404", "410", "451"] {
        write(&format!("{page}.html"), &format!("<h1>{page}</h1>"))?;
    }
    write("docs/there.txt", "there")?;
    let rules = "\
# comment, and blank lines\r
\r
  /spaces   /one.html   301  \r
/default /one.html
/docs/there.txt /one.html 301
/302 /one.html 302
/303 /one.html 303
/307 /one.html 307
/308 /one.html 308
/query /one.html?by=rule 302
/posts/:year/:title /articles/:title/:year
/splat/* /all/:splat 302
/twice /first
/twice /second
/rewrite /one.html 200
/gone/* /410.html 410
/law/* /451.html 451
/lost/* /lost.html 404
/app/* /index.html 200
/* /404.html 404
";
    Ok(write("_redirects", rules)?)
}

fn write_broken_site(at: &Path) -> Result<()> {
    fs::create_dir_all(at)?;
    fs::write(at.join("index.html"), "<h1>index</h1>")?;
    Ok(fs::write(at.join("_redirects"), "/a /b 301!\n")?)
}
