//! The schedule against PyTorch's `OneCycleLR(peak, total_steps, pct_start=0.25)` with betas (0.95, 0.999).

use crate::recipe;
use faceoff_training::Schedule;

/// (steps in all, step, learning rate, beta1)
const GOLDEN: [(usize, usize, f64, f64); 12] = [
    (20, 0, 0.00011999999999999988, 0.95),
    (20, 1, 0.0005417662350913717, 0.9353553390593273),
    (20, 4, 0.003, 0.85),
    (20, 5, 0.0029672215322151044, 0.8510926199633096),
    (20, 12, 0.0013432139322692995, 0.9052264231633826),
    (20, 18, 3.2790467784895864e-05, 0.9489073800366903),
    (20, 19, 1.2e-08, 0.95),
    (7, 0, 0.00011999999999999988, 0.95),
    (7, 1, 0.0029832463063527354, 0.8505584586887436),
    (7, 3, 0.0018337860658088677, 0.8888739533021842),
    (7, 5, 0.0002606527959586539, 0.9413119387157997),
    (7, 6, 1.2e-08, 0.95),
];

#[test]
fn equals_pytorch() {
    let recipe = recipe();
    for (steps, step, learning_rate, beta1) in GOLDEN {
        let found = Schedule::new(&recipe, steps).at(step);
        assert!((found.learning_rate / learning_rate - 1.0).abs() < 1e-9, "{steps} {step}: {}", found.learning_rate);
        assert!((found.beta1 - beta1).abs() < 1e-12, "{steps} {step}: {}", found.beta1);
        assert_eq!(found.step, step as u64 + 1);
    }
}

/// Too short for a warm-up: no division by nothing, and rates stay between end and peak.
#[test]
fn the_shortest_schedules_are_finite() {
    let recipe = recipe();
    for steps in 1..8 {
        for step in 0..steps {
            let found = Schedule::new(&recipe, steps).at(step);
            assert!((0.0..=recipe.peak_learning_rate).contains(&found.learning_rate), "{steps} {step}: {found:?}");
            assert!((recipe.beta1_low - 1e-12..=recipe.beta1_high + 1e-12).contains(&found.beta1), "{found:?}");
        }
    }
}
