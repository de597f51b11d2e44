//! Full-text search over the products of the shop. The index is made from the manifest, is brought up to
//! date when somebody searches, and may be deleted at any time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use parking_lot::{Mutex, RwLock};
use tantivy::collector::{Count, TopDocs};
use tantivy::directory::MmapDirectory;
use tantivy::query::{BooleanQuery, BoostQuery, FuzzyTermQuery, Occur, Query, TermQuery};
use tantivy::schema::{
    Field, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions, Value,
};
use tantivy::tokenizer::{
    AsciiFoldingFilter, LowerCaser, RemoveLongFilter, SimpleTokenizer, TextAnalyzer,
};
use tantivy::{
    Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, TantivyDocument, Term,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ids::ProductId;
use crate::manifest::record::{Product, Text};
use crate::manifest::{Manifest, ManifestError};
use crate::shop::beginning;
use crate::store::{Store, StoreError};

/// Words of a query that count.
const MAX_WORDS: usize = 16;
/// Longest word that is indexed, in bytes.
const MAX_WORD_LEN: usize = 40;
/// Bytes of a description that are indexed.
const MAX_TEXT_LEN: usize = 64 << 10;
/// What the writer may use; no less is allowed.
const WRITER_MEMORY: usize = 15_000_000;
const TOKENIZER: &str = "words";
/// Searches at the same time: each takes a core.
const AT_ONCE: usize = 2;
/// Time that one waits for the others.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why nothing could be searched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// Others search, and do not come to an end in time.
    #[error("too many search at the moment")]
    Busy,
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The index failed.
    #[error("the search index {} failed", path.display())]
    Index {
        /// Its folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: tantivy::TantivyError,
    },
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Best first.
    pub products: Vec<ProductId>,
    /// How many there are in all.
    pub total: usize,
}

/// The index of one data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Search {
    path: Arc<Path>,
    /// What brings the index up to date, one at a time.
    opened: Arc<Mutex<Option<Opened>>>,
    /// What finds meanwhile.
    finder: Arc<RwLock<Option<Finder>>>,
    turns: Arc<Semaphore>,
}

struct Opened {
    index: Index,
    finder: Finder,
    /// The revision that is indexed of each product.
    revisions: HashMap<ProductId, u64>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} products", self.revisions.len())
    }
}

/// Reads the index.
#[derive(Clone)]
struct Finder {
    reader: IndexReader,
    fields: Fields,
    /// The head that it knows all products of.
    head: Option<Cid>,
}

impl std::fmt::Debug for Finder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "of head {:?}", self.head)
    }
}

#[derive(Clone, Copy)]
struct Fields {
    id: Field,
    revision: Field,
    title: Field,
    text: Field,
}

impl Search {
    /// The index at `path`, which is made when somebody searches.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path: path.into(),
            opened: Arc::default(),
            finder: Arc::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Waits until few enough others search, but not for long.
    ///
    /// # Errors
    /// [`SearchError::Busy`] when they go on.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, SearchError> {
        self.turn_within(PATIENCE).await
    }

    async fn turn_within(&self, patience: Duration) -> Result<OwnedSemaphorePermit, SearchError> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        match tokio::time::timeout(patience, turn).await {
            Ok(turn) => Ok(turn.expect("the semaphore is never closed")),
            Err(_) => Err(SearchError::Busy),
        }
    }

    /// The products with all words of `terms` in title, id or description, each word as it is, as the
    /// beginning of one, or with one or two letters wrong. Blocking.
    ///
    /// # Errors
    /// [`SearchError::Index`] when it cannot be made anew either.
    pub fn search(
        &self,
        store: &Store,
        manifest: &Manifest,
        terms: &str,
        limit: usize,
    ) -> Result<Found, SearchError> {
        let finder = self.finder(store, manifest)?;
        finder
            .find(terms, limit)
            .map_err(|source| self.failed(source))
    }

    /// What finds the products of the newest head; while another search brings the index up to date, those of the
    /// head before.
    fn finder(&self, store: &Store, manifest: &Manifest) -> Result<Finder, SearchError> {
        let head = manifest.head()?.map(|head| head.root);
        let known = self.finder.read().clone();
        let mut opened = match known {
            Some(known) if known.head.is_some() && known.head == head => return Ok(known),
            Some(known) => match self.opened.try_lock() {
                Some(opened) => opened,
                None => return Ok(known),
            },
            None => self.opened.lock(),
        };
        let opened = match &mut *opened {
            Some(opened) => opened,
            none => none.insert(Opened::open(&self.path).map_err(|source| self.failed(source))?),
        };
        opened.update(store, manifest, |source| self.failed(source))?;
        opened.finder.head = head;
        *self.finder.write() = Some(opened.finder.clone());
        Ok(opened.finder.clone())
    }

    fn failed(&self, source: tantivy::TantivyError) -> SearchError {
        SearchError::Index {
            path: self.path.to_path_buf(),
            source,
        }
    }
}

impl Opened {
    /// Opens the index; one that cannot be read, or that is of another kind, is made anew.
    fn open(path: &Path) -> tantivy::Result<Self> {
        Self::open_whole(path).or_else(|error| {
            tracing::debug!(%error, "the search index is made anew");
            match std::fs::remove_dir_all(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Self::open_whole(path),
            }
        })
    }

    fn open_whole(path: &Path) -> tantivy::Result<Self> {
        std::fs::create_dir_all(path)?;
        let (schema, fields) = schema();
        let directory = MmapDirectory::open(path)?;
        let index = Index::builder()
            .schema(schema)
            .settings(IndexSettings::default())
            .open_or_create(directory)?;
        index.tokenizers().register(TOKENIZER, analyzer());
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .try_into()?;
        let revisions = indexed(&reader, fields)?;
        let finder = Finder {
            reader,
            fields,
            head: None,
        };
        Ok(Self {
            index,
            finder,
            revisions,
        })
    }

    /// Takes in what has changed in the manifest.
    fn update(
        &mut self,
        store: &Store,
        manifest: &Manifest,
        failed: impl Fn(tantivy::TantivyError) -> SearchError,
    ) -> Result<(), SearchError> {
        let mut gone = self.revisions.clone();
        let mut changed = Vec::new();
        for entry in manifest.shop_entries() {
            let (id, revision, entry) = entry?;
            // What buyers see: products that the lists of the newest head show.
            if entry.is_none_or(|entry| entry.card.is_none()) {
                continue;
            }
            if gone.remove(&id) != Some(revision) {
                changed.push((id, revision));
            }
        }
        if changed.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let mut documents = Vec::with_capacity(changed.len());
        for (id, revision) in &changed {
            let product = manifest.product(id)?;
            let Some(product) = product else { continue };
            let text = description(store, &product)?;
            documents.push(self.document(id, *revision, &product, &text));
        }
        self.write(
            gone.keys().chain(changed.iter().map(|(id, _)| id)),
            documents,
        )
        .map_err(failed)?;
        self.revisions.retain(|id, _| !gone.contains_key(id));
        self.revisions.extend(changed);
        Ok(())
    }

    fn document(
        &self,
        id: &ProductId,
        revision: u64,
        product: &Product,
        text: &str,
    ) -> TantivyDocument {
        let fields = self.finder.fields;
        let mut document = TantivyDocument::default();
        document.add_text(fields.id, id.as_str());
        document.add_u64(fields.revision, revision);
        document.add_text(fields.title, &product.title);
        document.add_text(fields.title, id.as_str());
        document.add_text(fields.text, text);
        document
    }

    fn write<'a>(
        &self,
        replaced: impl Iterator<Item = &'a ProductId>,
        documents: Vec<TantivyDocument>,
    ) -> tantivy::Result<()> {
        let mut writer: IndexWriter = self.index.writer_with_num_threads(1, WRITER_MEMORY)?;
        for id in replaced {
            writer.delete_term(Term::from_field_text(self.finder.fields.id, id.as_str()));
        }
        for document in documents {
            writer.add_document(document)?;
        }
        writer.commit()?;
        writer.wait_merging_threads()?;
        self.finder.reader.reload()
    }
}

impl Finder {
    fn find(&self, terms: &str, limit: usize) -> tantivy::Result<Found> {
        let words = words(terms);
        if words.is_empty() || limit == 0 {
            return Ok(Found::default());
        }
        let each = words.iter().map(|word| (Occur::Must, self.word(word)));
        let query = BooleanQuery::new(each.collect());
        let searcher = self.reader.searcher();
        let top = TopDocs::with_limit(limit).order_by_score();
        let (best, total) = searcher.search(&query, &(top, Count))?;
        let mut products = Vec::with_capacity(best.len());
        for (_, address) in best {
            let document: TantivyDocument = searcher.doc(address)?;
            products.extend(id_of(&document, self.fields));
        }
        Ok(Found { products, total })
    }

    /// One word of a query: what is nearer to it counts more, and titles more than descriptions.
    fn word(&self, word: &str) -> Box<dyn Query> {
        let typos = match word.chars().count() {
            0..=3 => 0,
            4..=7 => 1,
            _ => 2,
        };
        let mut ways: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        for (field, weight) in [(self.fields.title, 3.0), (self.fields.text, 1.0)] {
            let term = Term::from_field_text(field, word);
            let exact = TermQuery::new(term.clone(), IndexRecordOption::WithFreqs);
            let beginning = FuzzyTermQuery::new_prefix(term.clone(), 0, true);
            let similar = FuzzyTermQuery::new(term, typos, true);
            let ranked: [(f32, Box<dyn Query>); 3] = [
                (2.0, Box::new(exact)),
                (0.5, Box::new(beginning)),
                (0.25, Box::new(similar)),
            ];
            for (rank, query) in ranked {
                let boosted = BoostQuery::new(query, rank * weight);
                ways.push((Occur::Should, Box::new(boosted)));
            }
        }
        Box::new(BooleanQuery::new(ways))
    }
}

fn schema() -> (Schema, Fields) {
    let mut builder = Schema::builder();
    let words = TextFieldIndexing::default()
        .set_tokenizer(TOKENIZER)
        .set_index_option(IndexRecordOption::WithFreqs);
    let words = TextOptions::default().set_indexing_options(words);
    let fields = Fields {
        id: builder.add_text_field("id", STRING | STORED),
        revision: builder.add_u64_field("revision", STORED),
        title: builder.add_text_field("title", words.clone()),
        text: builder.add_text_field("text", words),
    };
    (builder.build(), fields)
}

/// Words without case and accents.
fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(MAX_WORD_LEN))
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .build()
}

/// The words of a query that count.
pub fn words(terms: &str) -> Vec<String> {
    let mut analyzer = analyzer();
    let mut stream = analyzer.token_stream(terms);
    let mut words = Vec::new();
    while words.len() < MAX_WORDS && stream.advance() {
        words.push(stream.token().text.clone());
    }
    words
}

fn id_of(document: &TantivyDocument, fields: Fields) -> Option<ProductId> {
    let id = document.get_first(fields.id)?.as_str()?;
    id.parse().ok()
}

/// The revisions of all products in the index.
fn indexed(reader: &IndexReader, fields: Fields) -> tantivy::Result<HashMap<ProductId, u64>> {
    let mut revisions = HashMap::new();
    for segment in reader.searcher().segment_readers() {
        let documents = segment.get_store_reader(1)?;
        for document in documents.iter::<TantivyDocument>(segment.alive_bitset()) {
            let document = document?;
            let revision = document.get_first(fields.revision);
            if let (Some(id), Some(revision)) = (
                id_of(&document, fields),
                revision.and_then(|value| value.as_u64()),
            ) {
                revisions.insert(id, revision);
            }
        }
    }
    Ok(revisions)
}

/// The beginning of a product's description; nothing where it is not here.
fn description(store: &Store, product: &Product) -> Result<String, StoreError> {
    let bytes = match &product.description {
        Text::Inline(text) => text.clone().into_bytes(),
        Text::Stored(cid) => beginning(store, cid, MAX_TEXT_LEN)?.unwrap_or_default(),
    };
    let end = bytes.len().min(MAX_TEXT_LEN);
    Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

#[cfg(test)]
mod tests;
