//! Depth-first traversal with read-ahead: what walking, reading and listing have in common.
//!
//! A [`Visit`] turns each fetched block into outputs and further blocks to fetch, in order. Blocks
//! are fetched out of order, up to a window ahead; outputs come in the order a plain depth-first
//! traversal gives them. Errors, too: a block that is missing far ahead does not end the traversal
//! before its turn.

use cid::Cid;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

use super::DagError;
use crate::block::Block;
use crate::source::{BlockSource, FetchError};

/// Links that may wait at once: a bound on memory (about 150 bytes each) against hostile DAGs. An
/// honest one has at most some thousand links per node and few levels.
const MAX_PENDING: usize = 1 << 20;

/// What to do with fetched blocks.
pub(super) trait Visit: Send {
    /// What a visitor remembers about a block it asked for.
    type Context: Send + 'static;
    /// What comes out.
    type Output: Send;

    /// Takes one block apart.
    fn visit(&mut self, context: Self::Context, block: Block) -> Result<Vec<Step<Self>>, DagError>;

    /// Whether this block need not be fetched after all.
    fn skip(&self, _cid: &Cid) -> bool {
        false
    }
}

/// A part of what a block stands for.
pub(super) enum Step<V: Visit + ?Sized> {
    /// Something to put out.
    Output(V::Output),
    /// A block whose steps come here.
    Fetch(Cid, V::Context),
}

enum State<V: Visit> {
    Free,
    Waiting(Cid, V::Context),
    InFlight(V::Context),
    Arrived(V::Context, Block),
    Ready(V::Output),
    Failed(DagError),
}

struct Slot<V: Visit> {
    state: State<V>,
    next: Option<usize>,
}

/// One traversal. The slots form a linked list in depth-first order.
pub(super) struct Ahead<S, V: Visit> {
    source: S,
    pub(super) visitor: V,
    window: usize,
    slots: Vec<Slot<V>>,
    free: Vec<usize>,
    head: Option<usize>,
    in_flight: FuturesUnordered<BoxFuture<'static, (usize, Result<Block, FetchError>)>>,
}

impl<S: BlockSource + Clone, V: Visit> Ahead<S, V> {
    pub(super) fn new(
        source: &S,
        visitor: V,
        window: usize,
        root: Cid,
        context: V::Context,
    ) -> Self {
        let mut ahead = Self {
            source: source.clone(),
            visitor,
            window: window.max(1),
            slots: Vec::new(),
            free: Vec::new(),
            head: None,
            in_flight: FuturesUnordered::new(),
        };
        ahead.head = Some(ahead.new_slot(State::Waiting(root, context), None));
        ahead
    }

    /// The next output in order. After an error there is nothing more.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Result<V::Output, DagError>> {
        loop {
            let head_is_ready = matches!(self.head_state(), Some(State::Ready(_)));
            if !head_is_ready || self.in_flight.len() <= self.window / 2 {
                self.fill();
            }
            while let Some(Some(arrival)) = self.in_flight.next().now_or_never() {
                self.arrive(arrival);
            }
            match self.head_state()? {
                State::Ready(_) => match self.remove(None, self.head?) {
                    State::Ready(output) => return Some(Ok(output)),
                    _ => return None,
                },
                State::Failed(_) => match self.remove(None, self.head?) {
                    State::Failed(err) => {
                        self.head = None;
                        self.in_flight.clear();
                        return Some(Err(err));
                    }
                    _ => return None,
                },
                State::InFlight(_) => {
                    let arrival = self.in_flight.next().await?;
                    self.arrive(arrival);
                }
                State::Waiting(..) | State::Arrived(..) | State::Free => {}
            }
        }
    }

    fn head_state(&self) -> Option<&State<V>> {
        self.head.map(|head| &self.slots[head].state)
    }

    fn arrive(&mut self, (at, result): (usize, Result<Block, FetchError>)) {
        let slot = &mut self.slots[at];
        slot.state = match (std::mem::replace(&mut slot.state, State::Free), result) {
            (State::InFlight(context), Ok(block)) => State::Arrived(context, block),
            (_, Err(err)) => State::Failed(err.into()),
            (other, Ok(_)) => other,
        };
    }

    /// Takes arrived blocks apart and starts fetches, until the first `window` slots are busy.
    fn fill(&mut self) {
        let mut previous = None;
        let mut at = self.head;
        let mut busy = 0;
        while let Some(index) = at
            && busy < self.window
        {
            match std::mem::replace(&mut self.slots[index].state, State::Free) {
                State::Waiting(cid, _) if self.visitor.skip(&cid) => {
                    at = self.slots[index].next;
                    self.remove(previous, index);
                    continue;
                }
                State::Waiting(cid, context) => {
                    self.slots[index].state = self.start(index, cid, context);
                    continue;
                }
                State::Arrived(context, block) => {
                    self.expand(previous, index, context, block);
                    at = previous.map_or(self.head, |previous| self.slots[previous].next);
                    continue;
                }
                busy_state => self.slots[index].state = busy_state,
            }
            busy += 1;
            previous = at;
            at = self.slots[index].next;
        }
    }

    /// Begins to fetch; an identity CID needs no fetching.
    fn start(&mut self, index: usize, cid: Cid, context: V::Context) -> State<V> {
        match Block::inlined(&cid) {
            Ok(Some(block)) => State::Arrived(context, block),
            Ok(None) => {
                let source = self.source.clone();
                self.in_flight
                    .push(async move { (index, source.fetch(&cid).await) }.boxed());
                State::InFlight(context)
            }
            Err(err) => State::Failed(DagError::Fetch(err.into())),
        }
    }

    /// Replaces slot `index` by the steps of its block.
    fn expand(&mut self, previous: Option<usize>, index: usize, context: V::Context, block: Block) {
        let cid = *block.cid();
        let steps = match self.visitor.visit(context, block) {
            Ok(steps) if steps.len() + self.slots.len() - self.free.len() > MAX_PENDING => {
                Err(DagError::Limit {
                    cid,
                    limit: format!("more than {MAX_PENDING} links wait at once"),
                })
            }
            result => result,
        };
        match steps {
            Ok(steps) => {
                let mut next = self.slots[index].next;
                self.remove(previous, index);
                for step in steps.into_iter().rev() {
                    let state = match step {
                        Step::Output(output) => State::Ready(output),
                        Step::Fetch(cid, context) => State::Waiting(cid, context),
                    };
                    next = Some(self.new_slot(state, next));
                }
                self.link(previous, next);
            }
            Err(err) => self.slots[index].state = State::Failed(err),
        }
    }

    fn new_slot(&mut self, state: State<V>, next: Option<usize>) -> usize {
        let slot = Slot { state, next };
        match self.free.pop() {
            Some(index) => {
                self.slots[index] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        }
    }

    fn remove(&mut self, previous: Option<usize>, index: usize) -> State<V> {
        let next = self.slots[index].next;
        self.link(previous, next);
        self.free.push(index);
        std::mem::replace(&mut self.slots[index].state, State::Free)
    }

    fn link(&mut self, previous: Option<usize>, next: Option<usize>) {
        match previous {
            Some(previous) => self.slots[previous].next = next,
            None => self.head = next,
        }
    }
}
