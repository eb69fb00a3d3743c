use qcc_ir::{Attribute, Op};

use super::{Lifetime, plan};
use crate::fixture::{Fixture, dims};
use crate::random::Random;

#[test]
fn buffers_that_live_together_never_share() {
    let mut random = Random::new(7);
    for _ in 0..200 {
        let lifetimes: Vec<Lifetime<u64>> = (0..random.below(40))
            .map(|_| {
                let first = random.below(30) as usize;
                Lifetime { size: random.below(5) * 64, first, last: first + random.below(8) as usize }
            })
            .collect();
        let plan = plan(&lifetimes, |s| *s);
        let mut live_bytes = 0;
        for step in 0..40 {
            let live: Vec<usize> = (0..lifetimes.len())
                .filter(|&i| (lifetimes[i].first..=lifetimes[i].last).contains(&step))
                .collect();
            let mut slots: Vec<usize> = live.iter().map(|&i| plan.slot[i]).collect();
            slots.sort_unstable();
            slots.dedup();
            assert_eq!(slots.len(), live.len(), "two live buffers share a slot at step {step}");
            live_bytes = live_bytes.max(live.iter().map(|&i| lifetimes[i].size).sum());
        }
        let total: u64 = plan.slots.iter().map(|held| held.iter().max().copied().unwrap_or(0)).sum();
        for (lifetime, &slot) in lifetimes.iter().zip(&plan.slot) {
            assert!(plan.slots[slot].contains(&lifetime.size));
        }
        assert!(total >= live_bytes && total <= lifetimes.iter().map(|l| l.size).sum());
    }
}

#[test]
fn a_chain_needs_two_slots() {
    let mut f = Fixture::new();
    let mut x = f.input("x", "B,8");
    for _ in 0..5 {
        x = f.op(Op::Relu {}, &[x]);
        x = f.op(Op::Neg {}, &[x]);
    }
    f.result(x);
    let t = f.run("plan-memory");
    assert_eq!(t.outcomes[0].measures["slots"], 2);
    assert_eq!((t.outcomes[0].measures["bytes"], t.outcomes[0].measures["bytes_unshared"]), (64, 9 * 32));
}

#[test]
fn results_weights_and_reshapes_take_no_slot_of_their_own() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,4,6");
    let w = f.weight("w", &[6, 24]);
    let y = f.op(Op::Exp {}, &[x]);
    let flat = f.op(Op::Reshape { shape: dims("B,24") }, &[y]);
    let z = f.op(Op::Exp {}, &[flat]);
    let r = f.op(Op::Linear {}, &[flat, w]);
    let s = f.op(Op::Linear {}, &[z, w]);
    f.result(r);
    f.result(s);
    let t = f.run("plan-memory");
    let slots: Vec<Attribute> = t
        .function
        .order()
        .iter()
        .map(|id| t.function.node(*id).annotations[super::ANNOTATION].clone())
        .collect();
    // w, y, its reshape, z while the reshape lives, results.
    let expected = [-1, 0, 0, 1, -1, -1].map(|s| Attribute::Ints(vec![s]));
    assert_eq!(slots, expected);
}
