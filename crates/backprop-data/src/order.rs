//! The order in which an epoch visits the rows.

/// A permutation of `0..len` that is a pure function of seed, epoch and position.
///
/// Any position can be asked for at once, in any order, on any machine: nothing is stored and
/// nothing replayed. So a run resumes in the middle of an epoch, and data larger than memory get
/// the same order as data in memory. The values are part of the checkpoint contract: a run that
/// resumes under a newer version must see the rows it would have seen.
///
/// The construction is a Feistel network over a grid of `a · b ≥ len` cells with
/// `a ≈ b ≈ √len`: row and column number are shifted in turn, each by a keyed hash of the other,
/// modulo the grid's side. Every such round is invertible, so the whole is a permutation of the
/// cells; a cell beyond `len` is sent through again until it falls inside (cycle walking), which
/// keeps the map one to one on `0..len` and takes one pass nearly always, since the grid exceeds
/// `len` by less than one side. See Black and Rogaway, "Ciphers with Arbitrary Finite Domains",
/// 2002. The rows may also be visited in [sequence](Order::sequential), for evaluation.
///
/// ```
/// use backprop_data::Order;
///
/// let order = Order::new(7, 3, 1000);
/// let mut seen: Vec<usize> = (0..1000).map(|i| order.index(i)).collect();
/// assert_eq!(order.index(500), seen[500]);
/// seen.sort();
/// assert!(seen.into_iter().eq(0..1000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    len: usize,
    shuffle: Option<Feistel>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Feistel {
    a: u64,
    b: u64,
    keys: [u64; ROUNDS],
}

/// Four rounds make a Feistel network indistinguishable from random for one look (Luby and
/// Rackoff, 1988); small grids carry little entropy per round, so twice as many are spent.
const ROUNDS: usize = 8;

/// What an order is for: orders of different streams are independent under the same seed.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Epoch = 0,
    Split = 1,
    Augment = 2,
}

impl Order {
    /// The shuffled order of epoch `epoch` over `len` rows.
    pub fn new(seed: u64, epoch: u64, len: usize) -> Self {
        Self::keyed(seed, Stream::Epoch, epoch, len)
    }

    /// The rows in sequence: `index(i) = i`.
    pub fn sequential(len: usize) -> Self {
        Self { len, shuffle: None }
    }

    pub(crate) fn keyed(seed: u64, stream: Stream, number: u64, len: usize) -> Self {
        let mut state = mix(mix(mix(seed) ^ stream as u64) ^ number);
        let keys = [(); ROUNDS].map(|()| {
            state = state.wrapping_add(GOLDEN_GAMMA);
            mix(state)
        });
        let n = (len as u64).max(1);
        let a = ceil_sqrt(n);
        let b = n.div_ceil(a);
        let shuffle = Some(Feistel { a, b, keys });
        Self { len, shuffle }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The row at position `i` of the epoch.
    ///
    /// # Panics
    /// If `i ≥ len`, as indexing a slice does.
    pub fn index(&self, i: usize) -> usize {
        assert!(i < self.len, "position {i} of an order of {}", self.len);
        let Some(feistel) = &self.shuffle else {
            return i;
        };
        let mut cell = i as u64;
        loop {
            cell = feistel.permute(cell);
            if cell < self.len as u64 {
                return cell as usize;
            }
        }
    }
}

impl Feistel {
    /// Permutes the cells `0..a·b`.
    fn permute(&self, cell: u64) -> u64 {
        let (mut row, mut column) = (cell / self.b, cell % self.b);
        for pair in self.keys.chunks_exact(2) {
            row = shifted(row, mix(pair[0] ^ column), self.a);
            column = shifted(column, mix(pair[1] ^ row), self.b);
        }
        row * self.b + column
    }
}

/// `(x + hash mod side) mod side` for `x < side`, the hash reduced by its upper half's product.
fn shifted(x: u64, hash: u64, side: u64) -> u64 {
    let shift = ((u128::from(hash) * u128::from(side)) >> 64) as u64;
    let sum = x + shift;
    if sum >= side { sum - side } else { sum }
}

/// 2⁶⁴ divided by the golden ratio: the increment of SplitMix64.
pub(crate) const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea and Flood, 2014, variant 13 of Stafford).
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(GOLDEN_GAMMA);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Smallest `r` with `r² ≥ n`, in whole numbers: a float root would differ between platforms.
fn ceil_sqrt(n: u64) -> u64 {
    let floor = n.isqrt();
    floor + u64::from(floor * floor < n)
}
