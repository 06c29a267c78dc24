use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, prop_assert, proptest};

use super::*;

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// Namespaces that each ask for some lines a second, evenly, for some seconds: how many each got.
fn run(fair: &mut FairShare, from_ns: u64, seconds: u64, asked: &[u64]) -> Vec<u64> {
    let names: Vec<String> = (0..asked.len()).map(|n| format!("ns-{n}")).collect();
    let mut got = vec![0; asked.len()];
    for step in 1..=seconds * 2_000 {
        for (n, rate) in asked.iter().enumerate() {
            let due = |step| step * rate / 2_000;
            for _ in due(step - 1)..due(step) {
                got[n] += u64::from(fair.take(&names[n], from_ns + step * MS / 2));
            }
        }
    }
    got
}

#[test]
fn one_namespace_alone_may_take_everything() {
    let mut fair = FairShare::new(1_000);
    assert_eq!((0..5_000).filter(|_| fair.take("ns-0", 0)).count(), 1_000);
    let [got] = run(&mut fair, 0, 10, &[5_000])[..] else { panic!() };
    assert!((9_940..=10_000).contains(&got), "{got}");
}

#[test]
fn after_a_quiet_time_all_together_have_the_lines_of_one_second() {
    let mut fair = FairShare::new(1_000);
    run(&mut fair, 0, 2, &[2_000, 2_000, 2_000]);
    let got = (0..9_000).filter(|n| fair.take(&format!("ns-{}", n % 3), 7 * SECOND)).count();
    // No namespace is new, so the newcomers' part stays; of each share less than a line does.
    assert!((947..=950).contains(&got), "{got}");
}

#[test]
fn a_quiet_namespace_gets_every_line_beside_a_noisy_one() {
    let mut fair = FairShare::new(1_000);
    let got = run(&mut fair, 0, 10, &[20_000, 300, 300]);
    assert_eq!(got[1..], [3_000, 3_000]);
    // What is left goes to the noisy one, after its burst.
    assert!((4_000..=5_000).contains(&got[0]), "{got:?}");
}

#[test]
fn a_namespace_that_writes_seldom_is_never_starved() {
    let mut fair = FairShare::new(1_000);
    for round in 0..10 {
        run(&mut fair, round * 11 * SECOND, 11, &[4_000]);
        // The share it had is forgotten.
        assert!(fair.take("seldom", (round + 1) * 11 * SECOND), "{round}");
    }
}

#[test]
fn noisy_namespaces_share_alike() {
    let mut fair = FairShare::new(900);
    run(&mut fair, 0, 1, &[9_000, 9_000, 9_000]);
    let got = run(&mut fair, SECOND, 10, &[9_000, 9_000, 9_000]);
    assert!(got.iter().all(|got| (2_980..=3_010).contains(got)), "{got:?}");
}

#[test]
fn a_share_that_is_not_used_returns_to_the_others() {
    let mut fair = FairShare::new(1_000);
    run(&mut fair, 0, 2, &[9_000, 9_000, 9_000, 9_000]);
    // At once, as far as it is not used; the share itself after a while.
    let [got] = run(&mut fair, 2 * SECOND, 5, &[9_000])[..] else { panic!() };
    assert!(got >= 5 * 1_000 - 800, "{got}");
    run(&mut fair, 7 * SECOND, 10, &[9_000]);
    assert_eq!(fair.shares.len(), 1);
}

#[test]
fn a_limit_of_few_lines_still_lets_everyone_write_now_and_then() {
    let mut fair = FairShare::new(1);
    let got = run(&mut fair, 0, 100, &[10; 5]);
    assert!(got.iter().all(|got| (18..=24).contains(got)), "{got:?}");
    assert!(got.iter().sum::<u64>() <= 100 + 6, "{got:?}");
}

#[test]
fn more_namespaces_than_have_shares_share_one() {
    let mut fair = FairShare::new(5_000);
    let mut lines = 0;
    for second in 0..5 {
        for n in 0..2_000 {
            for _ in 0..30 {
                lines += u64::from(fair.take(&format!("ns-{n}"), second * SECOND));
            }
        }
    }
    assert_eq!(fair.shares.len(), NAMESPACES_MAX);
    assert!((4 * 5_000..=5 * 5_000).contains(&lines), "{lines}");
}

#[test]
fn the_greatest_limit_does_not_overflow() {
    let mut fair = FairShare::new(u32::MAX);
    assert!(fair.take("a", 0));
    assert!(fair.take("a", u64::MAX / 2) && fair.take("b", u64::MAX));
    assert!(fair.take("b", 0));
}

proptest! {
    // Each case asks for some ten thousand lines.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn each_namespace_has_its_part_for_sure_and_nothing_is_left_unused(
        rate in 200..3_000_u32, asked in vec(1..6_000_u64, 1..6),
    ) {
        let seconds = 4;
        let mut fair = FairShare::new(rate);
        let got = run(&mut fair, 0, seconds, &asked);
        let (rate, namespaces) = (u64::from(rate), u64::try_from(asked.len()).unwrap());
        // The newcomers' part may be missing; a line or so because lines are whole.
        let part = rate * 19 / 20 / namespaces;
        for (asked, got) in asked.iter().zip(&got) {
            prop_assert!(got + 2 >= part.min(*asked) * seconds, "{:?} of {:?}", got, asked);
        }
        let total: u64 = got.iter().sum();
        prop_assert!(total <= rate * (seconds + 1));
        // Of what could be given, only what the shares' rounding and the newcomers keep is not.
        let could: u64 = asked.iter().sum::<u64>().min(rate) * seconds;
        prop_assert!(total + rate + 2 * namespaces >= could, "{} of {}", total, could);
    }
}
