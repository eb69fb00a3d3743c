//! Slots for buffers whose lifetimes are known: greedy by size for shared objects (Pisarchyk and Lee, "Efficient memory management for
//! deep neural net inference", 2020). The largest buffers choose first, so a slot is never outgrown by a later guest.
//!
//! Sizes may be symbolic: they are compared at typical values of their symbols, and a slot must hold the largest of its guests whatever
//! the symbols are.

/// A buffer: how large it is, and the steps between which it holds data, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime<S> {
    /// The size, in whatever form the caller has it.
    pub size: S,
    /// The step that writes it first.
    pub first: usize,
    /// The last step that touches it.
    pub last: usize,
}

impl<S> Lifetime<S> {
    fn overlaps(&self, other: &Lifetime<S>) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Which slot each buffer has, and what each slot must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<S> {
    /// The slot of each buffer, in the order the buffers were given.
    pub slot: Vec<usize>,
    /// The different sizes of each slot's guests; the slot must be as large as the largest of them.
    pub slots: Vec<Vec<S>>,
}

/// Assigns slots so that buffers that live at the same step have different ones. `typical` ranks sizes. Deterministic.
///
/// ```
/// use qcc_passes::plan_memory::{Lifetime, plan};
///
/// let lives = |size: u64, first, last| Lifetime { size, first, last };
/// let plan = plan(&[lives(4, 0, 1), lives(8, 1, 2), lives(4, 2, 3)], |size| *size);
/// assert_eq!(plan.slot, [1, 0, 1]);
/// assert_eq!(plan.slots, [vec![8], vec![4]]);
/// ```
pub fn plan<S: Clone + PartialEq>(lifetimes: &[Lifetime<S>], typical: impl Fn(&S) -> u64) -> Plan<S> {
    let sizes: Vec<u64> = lifetimes.iter().map(|l| typical(&l.size)).collect();
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(sizes[i]), lifetimes[i].first, i));
    let mut slot = vec![0; lifetimes.len()];
    // The size and the guests of each slot.
    let mut taken: Vec<(u64, Vec<usize>)> = Vec::new();
    for i in order {
        let fits = |guests: &[usize]| guests.iter().all(|&g| !lifetimes[g].overlaps(&lifetimes[i]));
        // Of equally large slots take the one left last: it is more likely in the cache.
        let left = |guests: &[usize]| {
            let before = guests.iter().map(|&g| lifetimes[g].last).filter(|&last| last < lifetimes[i].first);
            before.max()
        };
        let best = (0..taken.len())
            .filter(|&s| fits(&taken[s].1))
            .min_by_key(|&s| (taken[s].0, std::cmp::Reverse(left(&taken[s].1))));
        slot[i] = best.unwrap_or_else(|| {
            taken.push((sizes[i], Vec::new()));
            taken.len() - 1
        });
        taken[slot[i]].1.push(i);
    }
    let held = |guests: Vec<usize>| {
        let mut held: Vec<S> = Vec::new();
        for size in guests.into_iter().map(|g| &lifetimes[g].size) {
            if !held.contains(size) {
                held.push(size.clone());
            }
        }
        held
    };
    Plan { slot, slots: taken.into_iter().map(|(_, guests)| held(guests)).collect() }
}
