//! What holds in every world: nothing is counted that was not, nothing twice, and in the end nothing is missing.

use proptest::prelude::*;
use sockeye_core::Coverage;

use crate::world::{Step, World, any_step};

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    /// With events and none lost, everything is counted, exactly.
    #[test]
    fn with_events_nothing_is_missed(
        before in prop::collection::vec(any_step(false), 0..12),
        after in prop::collection::vec(any_step(false), 1..80),
    ) {
        let mut world = World::new(true);
        for step in before {
            if matches!(step, Step::Open { .. } | Step::OpenUdp { .. }) {
                world.step(step);
            }
        }
        world.baseline();
        after.into_iter().for_each(|step| world.step(step));
        world.come_to_rest();
        let (_, churn) = world.tick();
        let truth = world.truth();
        prop_assert_eq!((churn.tcp.opened, churn.tcp.closed, churn.tcp.live()), (truth.opened, truth.closed, truth.live));
        let incoming = world.incoming_truth();
        let flow = &churn.incoming;
        prop_assert_eq!((flow.opened, flow.closed, flow.live()), (incoming.opened, incoming.closed, incoming.live));
        prop_assert_eq!(churn.coverage, Coverage { seen: truth.opened, counted: Some(truth.opened) });
        let udp = world.udp_truth();
        prop_assert_eq!((churn.udp.opened, churn.udp.closed, churn.udp.live()), (udp.opened, udp.closed, udp.live));
        prop_assert_eq!(churn.unconfirmed, 0);
    }

    /// Without events, or with some lost, nothing false is counted and what is alive is known.
    #[test]
    fn without_events_nothing_false_is_counted(
        hears in any::<bool>(),
        after in prop::collection::vec(any_step(true), 1..80),
    ) {
        let mut world = World::new(hears);
        world.baseline();
        after.into_iter().for_each(|step| world.step(step));
        world.come_to_rest();
        let (_, churn) = world.tick();
        let truth = world.truth();
        prop_assert_eq!(churn.tcp.live(), truth.live);
        prop_assert_eq!(churn.udp.live(), world.udp_truth().live);
    }

    #[test]
    fn the_same_again_gives_the_same(steps in prop::collection::vec(any_step(true), 1..60)) {
        let run = || {
            let mut world = World::new(true);
            world.baseline();
            steps.iter().for_each(|step| world.step(*step));
            world.come_to_rest();
            (world.tick(), world.closed)
        };
        let (one, other) = (run(), run());
        prop_assert_eq!(one, other);
    }
}
