//! The figures that requests are held to: what the gateway allocates for one, in the profile in which tests are built.
//!
//! A change that allocates more fails; so does one that allocates much less, until its gain is written down here. Lower
//! a figure to what the failure says was measured. Raise one only with a reason in the commit's message.
//! `loadtest/allocations` shows where a request allocates.

use std::fmt;

/// What a request of each scenario may cost the gateway.
#[rustfmt::skip]
const FIGURES: &[(&str, Cost)] = &[
    ("http1 get",               Cost { allocations: 16.0, bytes: 15_014.0 }),
    ("http1 post",              Cost { allocations: 16.0, bytes: 16_036.0 }),
    ("https http2 get",         Cost { allocations: 19.0, bytes: 15_368.0 }),
    ("mesh get",                Cost { allocations: 16.0, bytes: 15_042.0 }),
    ("tunnel get, origin",      Cost { allocations: 26.0, bytes: 15_778.0 }),
    ("tunnel get, destination", Cost { allocations: 28.1, bytes: 18_363.0 }),
];

/// One allocation more than the figure is too many. A fraction is what timers do, and tables that grow.
const SLACK: f64 = 0.5;
/// And such a share of its bytes: how many come in one read isn't always the same.
const SLACK_BYTES: f64 = 0.05;
/// Who is by such a share better than the figure has earned a lower one.
const GAIN: f64 = 0.10;

/// What one request costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Allocations from the heap; growing is one, too.
    pub allocations: f64,
    /// Their bytes.
    pub bytes: f64,
}

impl Cost {
    /// The lesser of both, in each.
    pub fn min(self, other: Cost) -> Cost {
        Cost { allocations: self.allocations.min(other.allocations), bytes: self.bytes.min(other.bytes) }
    }

    /// Holds what was measured to this figure.
    fn hold(self, measured: Cost) -> Result<(), &'static str> {
        let Cost { allocations, bytes } = self;
        let grew = measured.allocations > allocations + SLACK || measured.bytes > bytes * (1.0 + SLACK_BYTES);
        let shrank = measured.allocations < allocations * (1.0 - GAIN) || measured.bytes < bytes * (1.0 - GAIN);
        match (grew, shrank) {
            (true, _) => Err("has become dearer"),
            (false, true) => Err("has become cheaper: lower its figure, so that it stays so"),
            (false, false) => Ok(()),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} allocations, {:.0} bytes", self.allocations, self.bytes)
    }
}

/// Holds what was measured to the scenario's figure.
///
/// # Errors
/// When it is more, or so much less that the figure must follow.
pub fn hold(scenario: &str, measured: Cost) -> Result<(), String> {
    let (_, figure) = FIGURES.iter().find(|(name, _)| *name == scenario).expect(scenario);
    let verdict = figure.hold(measured);
    verdict.map_err(|verdict| format!("{scenario}: a request {verdict}\n  figure:   {figure}\n  measured: {measured}"))
}

#[test]
fn a_figure_is_held_from_both_sides() {
    let figure = Cost { allocations: 60.0, bytes: 10_000.0 };
    let held = |allocations, bytes| figure.hold(Cost { allocations, bytes });
    assert_eq!(held(60.4, 10_400.0), Ok(()));
    assert_eq!(held(55.0, 9_100.0), Ok(()));
    for (allocations, bytes) in [(61.0, 10_000.0), (60.0, 10_600.0), (50.0, 10_600.0)] {
        assert!(held(allocations, bytes).is_err_and(|why| why.contains("dearer")));
    }
    for (allocations, bytes) in [(53.0, 10_000.0), (60.0, 8_900.0)] {
        assert!(held(allocations, bytes).is_err_and(|why| why.contains("cheaper")));
    }
}
