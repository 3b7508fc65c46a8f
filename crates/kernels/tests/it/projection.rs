//! The projection of frozen embeddings against its formula, and AdamW in place against the same steps by Candle's operators.

use candle_core::{DType, Device, Tensor, Var};
use faceoff_kernels::{AdamW, AdamWStep, Encoder, ImageBatch, Inputs, Projection, ProjectionEncoder, RowBatch, State};

const CPU: Device = Device::Cpu;

fn wave(count: usize, phase: f32) -> Vec<f32> {
    (0..count).map(|index| (index as f32 * 0.7 + phase).sin()).collect()
}

fn step(step: u64) -> AdamWStep {
    let (learning_rate, beta1, beta2, epsilon, weight_decay) = (1e-2, 0.9, 0.99, 1e-8, 0.05);
    AdamWStep { learning_rate, beta1, beta2, epsilon, weight_decay, step }
}

fn state(projection: &Projection) -> State {
    let tensor = |(place, (name, shape)): (usize, (String, Vec<usize>))| {
        let values = wave(shape.iter().product(), place as f32);
        (name, Tensor::from_vec(values, shape, &CPU).unwrap())
    };
    projection.tensors().into_iter().enumerate().map(tensor).collect()
}

fn rows(count: usize, width: usize, factor: f32) -> Inputs {
    let values = wave(count * width, 0.3).into_iter().map(|x| x * factor).collect();
    RowBatch::new(values, count).unwrap().into()
}

/// By definition, in f64.
fn projected(projection: &Projection, state: &State, row: &[f32]) -> Vec<f64> {
    let mut x: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
    if projection.normalize {
        let length = (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt();
        x.iter_mut().for_each(|x| *x /= length);
    }
    for (place, layer) in state.chunks_exact(2).enumerate() {
        if place > 0 {
            x.iter_mut().for_each(|x| *x = x.max(0.0));
        }
        let (weights, bias): (Vec<Vec<f32>>, Vec<f32>) = (layer[0].1.to_vec2().unwrap(), layer[1].1.to_vec1().unwrap());
        let unit = |(weights, bias): (&Vec<f32>, &f32)| {
            f64::from(*bias) + weights.iter().zip(&x).map(|(&w, &x)| f64::from(w) * x).sum::<f64>()
        };
        x = weights.iter().zip(&bias).map(unit).collect();
    }
    x
}

#[test]
fn it_is_its_formula_and_only_the_direction_counts_where_rows_are_normalised() {
    for hidden in [0, 4] {
        for normalize in [true, false] {
            let projection = Projection { inputs: 6, hidden, outputs: 3, normalize };
            let state = state(&projection);
            let encoder = ProjectionEncoder::new(projection, &state, &CPU).unwrap();
            let found = |factor| encoder.forward(&rows(5, 6, factor)).unwrap().to_vec2::<f32>().unwrap();
            for (found, row) in found(1.0).iter().zip(wave(30, 0.3).chunks_exact(6)) {
                for (&found, expected) in found.iter().zip(projected(&projection, &state, row)) {
                    assert!((f64::from(found) - expected).abs() < 1e-5, "{found} instead of {expected}");
                }
            }
            let apart = found(1.0)[0].iter().zip(&found(1e4)[0]).any(|(a, b)| (a - b).abs() > 1e-4);
            assert_eq!(apart, !normalize);
        }
    }
}

#[test]
fn gradients_are_those_of_differences_and_a_step_goes_down() {
    let projection = Projection { inputs: 6, hidden: 4, outputs: 3, normalize: true };
    let state = state(&projection);
    let along = Tensor::from_vec(wave(15, 1.1), (5, 3), &CPU).unwrap();
    let loss = |state: &State| {
        let rows = wave(30, 0.3);
        let embeddings = rows.chunks_exact(6).flat_map(|row| projected(&projection, state, row));
        embeddings.zip(wave(15, 1.1)).map(|(x, along)| x * f64::from(along)).sum::<f64>()
    };
    let mut encoder = ProjectionEncoder::new(projection, &state, &CPU).unwrap();
    let (embeddings, tape) = encoder.forward_train(&rows(5, 6, 1.0)).unwrap();
    assert!(!embeddings.track_op());
    let gradients = encoder.backward(tape, &along).unwrap();
    for (place, (name, gradient)) in encoder.named_gradients(&gradients).unwrap().into_iter().enumerate() {
        let moved = |element: usize, h: f32| {
            let mut state = state.clone();
            let (_, tensor) = &mut state[place];
            let mut values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            values[element] += h;
            *tensor = Tensor::from_vec(values, tensor.dims(), &CPU).unwrap();
            loss(&state)
        };
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(gradient.len(), state[place].1.elem_count(), "{name}");
        for (element, found) in gradient.into_iter().enumerate() {
            let difference = (moved(element, 1e-3) - moved(element, -1e-3)) / 2e-3;
            assert!((f64::from(found) - difference).abs() < 2e-3, "{name} {element}: {found} instead of {difference}");
        }
    }
    encoder.apply(gradients, &step(1)).unwrap();
    assert!(loss(&encoder.state().unwrap()) < loss(&state));
}

#[test]
fn wrong_inputs_and_weights_are_errors() {
    let projection = Projection { inputs: 6, hidden: 0, outputs: 3, normalize: true };
    let state = state(&projection);
    let encoder = ProjectionEncoder::new(projection, &state, &CPU).unwrap();
    let message = encoder.forward(&rows(2, 5, 1.0)).unwrap_err().to_string();
    assert!(message.contains("rows of 5 numbers for a projection of 6"), "{message}");
    let images = ImageBatch::new(vec![0; 12], 1, 2).unwrap().into();
    let message = encoder.forward(&images).unwrap_err().to_string();
    assert!(message.contains("takes rows of numbers, but was given images"), "{message}");
    let wide = Projection { outputs: 4, ..projection };
    let message = ProjectionEncoder::new(wide, &state, &CPU).err().unwrap().to_string();
    assert!(message.contains("`output.weight`: its shape is [3, 6], not [4, 6]"), "{message}");
    assert!(RowBatch::new(vec![1.0; 5], 2).is_err() && RowBatch::new(Vec::new(), 2).is_err());
}

/// The same bits: many small numbers of both signs, and zeros.
#[test]
fn adamw_in_place_takes_the_steps_of_candles_operators() {
    in_place_is_candles(&[2, 9000]);
    // What has one dimension never decays.
    in_place_is_candles(&[18_000]);
}

fn in_place_is_candles(shape: &[usize]) {
    let start = |phase| Tensor::from_vec(wave(2 * 9000, phase), shape, &CPU).unwrap();
    let weights = Var::from_tensor(&start(0.0)).unwrap();
    let mut optimizer = AdamW::new(vec![("weights".into(), weights.clone())]).unwrap();
    let (mut expected, mut m, mut v) = (start(0.0), start(0.0).zeros_like().unwrap(), start(0.0).zeros_like().unwrap());
    for number in 1..4 {
        let factor = (start(number as f32) * 1e-3).unwrap();
        let factor = (&factor * factor.gt(0.0).unwrap().to_dtype(DType::F32).unwrap()).unwrap();
        let gradients = (weights.as_tensor() * &factor).unwrap().sum_all().unwrap().backward().unwrap();
        let AdamWStep { learning_rate, beta1, beta2, epsilon, weight_decay, .. } = step(number);
        m = ((&m * beta1).unwrap() + (&factor * (1.0 - beta1)).unwrap()).unwrap();
        v = ((&v * beta2).unwrap() + (factor.sqr().unwrap() * (1.0 - beta2)).unwrap()).unwrap();
        let correction = |beta: f64| 1.0 - beta.powf(number as f64);
        let denominator = ((v.sqrt().unwrap() / correction(beta2).sqrt()).unwrap() + epsilon).unwrap();
        let keep = if shape.len() > 1 { 1.0 - learning_rate * weight_decay } else { 1.0 };
        let kept = (&expected * keep).unwrap();
        expected = (kept - ((&m / denominator).unwrap() * (learning_rate / correction(beta1))).unwrap()).unwrap();
        let before = optimizer.state().unwrap();
        let bits = |tensor: &Tensor| {
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let old = bits(&before[0].1);
        optimizer.step(&gradients, &step(number)).unwrap();
        assert!(bits(weights.as_tensor()) == bits(&expected), "step {number}");
        // What was given out before stays as it was.
        assert!(bits(&before[0].1) == old);
        assert!(bits(&optimizer.state().unwrap()[0].1) == bits(&m));
    }
}

/// Of four classes a step takes one, so at step 8 each is expected to have taken two; what all classes share has taken all eight.
#[test]
fn rows_that_were_taken_step_as_often_as_their_own_steps_say() {
    let variables = |rows: &[usize]| {
        let weights: Vec<f32> = rows.iter().flat_map(|&row| wave(3, row as f32)).collect();
        let weights = Tensor::from_vec(weights, (rows.len(), 3), &CPU).unwrap();
        let bias = Tensor::new(&[0.5f32], &CPU).unwrap();
        [("weight", weights), ("bias", bias)]
            .map(|(name, tensor)| (name.to_string(), Var::from_tensor(&tensor).unwrap()))
    };
    let after = |variables: &[(String, Var)], optimizer: &mut AdamW, number: u64| {
        let squares = |place: usize| variables[place].1.sqr().unwrap().sum_all().unwrap();
        let loss = squares(0) + squares(1);
        optimizer.step(&loss.unwrap().backward().unwrap(), &step(number)).unwrap();
        let values = |(_, var): &(String, Var)| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        [values(&variables[0]), values(&variables[1])]
    };
    let plain = |rows: &[usize], number| {
        let variables = variables(rows);
        after(&variables, &mut AdamW::new(variables.to_vec()).unwrap(), number)
    };
    let whole = variables(&[0, 1, 2, 3]);
    let mut whole_optimizer = AdamW::new(whole.to_vec()).unwrap();
    let part = variables(&[0]);
    let mut optimizer = AdamW::new(part.to_vec()).unwrap();
    let rows = Tensor::new(&[2u32], &CPU).unwrap();
    optimizer.take_rows(&whole_optimizer, &rows).unwrap();
    let [row, bias] = after(&part, &mut optimizer, 8);
    assert_eq!((&row, &bias), (&plain(&[2], 2)[0], &plain(&[2], 8)[1]));
    assert_ne!(row, plain(&[2], 8)[0]);
    // They go back to their places, and the others stay.
    optimizer.give_rows(&mut whole_optimizer, &rows).unwrap();
    let given = whole[0].1.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let expected: Vec<f32> = [wave(3, 0.0), wave(3, 1.0), row, wave(3, 3.0)].concat();
    assert_eq!(given, expected);
}
