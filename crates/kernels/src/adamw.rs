//! AdamW with moments that can be saved, so that an interrupted training goes on bit for bit.
//!
//! Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv:1711.05101, algorithm 2, in the form and order
//! of operations of PyTorch's `torch.optim.AdamW`. As there, the bias corrections use the beta1 of the current step,
//! also where a schedule cycles it.

use crate::state::checked_moments;
use crate::{Result, State};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, InplaceOp2, InplaceOp3, Layout, Tensor, Var};
use rayon::prelude::*;

/// The numbers of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay; it acts on tensors of more than one dimension only.
    pub weight_decay: f64,
    /// Counts from 1.
    pub step: u64,
}

/// The factors that a step derives from its numbers, the same for every element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Factors {
    /// Factor of the weights before the update, for tensors of more than one dimension.
    pub(crate) keep: f64,
    /// Learning rate over the first bias correction.
    pub(crate) rate: f64,
    /// Root of the second bias correction.
    pub(crate) root_correction: f64,
}

impl AdamWStep {
    pub(crate) fn factors(&self) -> Factors {
        let correction = |beta: f64| 1.0 - beta.powf(self.step as f64);
        Factors {
            keep: 1.0 - self.learning_rate * self.weight_decay,
            rate: self.learning_rate / correction(self.beta1),
            root_correction: correction(self.beta2).sqrt(),
        }
    }
}

/// A trained tensor with its moments.
struct Parameter {
    name: String,
    var: Var,
    /// First moment.
    m: Tensor,
    /// Second moment.
    v: Tensor,
    /// Of how many classes how many have a row here: all of them, 1 of 1, unless rows were taken.
    rows: [u64; 2],
}

/// The optimiser of a set of variables.
pub struct AdamW {
    parameters: Vec<Parameter>,
}

impl AdamW {
    /// Over `variables`, with all moments at 0.
    pub fn new(variables: Vec<(String, Var)>) -> Result<Self> {
        let parameter = |(name, var): (String, Var)| {
            let (m, v) = (var.zeros_like()?, var.zeros_like()?);
            Ok(Parameter { name, var, m, v, rows: [1, 1] })
        };
        Ok(Self { parameters: variables.into_iter().map(parameter).collect::<Result<_>>()? })
    }

    /// One step along the gradients of a backward pass. A variable without a gradient stays as it is.
    pub fn step(&mut self, gradients: &GradStore, step: &AdamWStep) -> Result<()> {
        for parameter in &mut self.parameters {
            if let Some(gradient) = gradients.get(&parameter.var) {
                parameter.update(gradient, step)?;
            }
        }
        Ok(())
    }

    /// One step along gradients in the order of the variables.
    pub(crate) fn step_along(&mut self, gradients: &[Tensor], step: &AdamWStep) -> Result<()> {
        self.parameters.iter_mut().zip(gradients).try_for_each(|(parameter, gradient)| parameter.update(gradient, step))
    }

    /// Takes weights and moments from the optimiser of a head of more classes: of what has a row for each class those of the classes `rows`,
    /// the rest as it is.
    ///
    /// A step corrects the bias of a row's moments by the steps that the row itself is expected to have taken: where a step takes n of N
    /// rows, n / N of all steps, rounded up. With all rows it is the plain step.
    ///
    /// # Errors
    /// Those of Candle, where the two are not of one kind of head.
    pub fn take_rows(&mut self, whole: &Self, rows: &Tensor) -> Result<()> {
        for (part, whole) in self.parameters.iter_mut().zip(&whole.parameters) {
            let axis = axis_of_classes(&part.var, &whole.var);
            part.rows = axis.map_or([1, 1], |axis| [&part.var, &whole.var].map(|var| var.dims()[axis] as u64));
            let picked = |tensor: &Tensor| match axis {
                Some(axis) => tensor.index_select(rows, axis),
                None => tensor.copy(),
            };
            part.var.set(&picked(&whole.var.as_detached_tensor())?)?;
            (part.m, part.v) = (picked(&whole.m)?, picked(&whole.v)?);
        }
        Ok(())
    }

    /// Gives back what [`AdamW::take_rows`] took, as it is now.
    ///
    /// # Errors
    /// As there.
    pub fn give_rows(&self, whole: &mut Self, rows: &Tensor) -> Result<()> {
        for (part, whole) in self.parameters.iter().zip(&mut whole.parameters) {
            let own = part.var.as_detached_tensor();
            let Some(axis) = axis_of_classes(&part.var, &whole.var) else {
                whole.var.set(&own)?;
                (whole.m, whole.v) = (part.m.copy()?, part.v.copy()?);
                continue;
            };
            let mut shape = vec![1; own.rank()];
            shape[axis] = rows.elem_count();
            let index = rows.reshape(shape)?.broadcast_as(own.shape())?.contiguous()?;
            whole.var.as_tensor().scatter_set(&index, &own, axis)?;
            whole.m.scatter_set(&index, &part.m, axis)?;
            whole.v.scatter_set(&index, &part.v, axis)?;
        }
        Ok(())
    }

    /// The moments as `<name>.m` and `<name>.v`, on the CPU.
    pub fn state(&self) -> Result<State> {
        let mut state = State::new();
        for Parameter { name, m, v, .. } in &self.parameters {
            // Copies: on the CPU moments change in place.
            state.push((format!("{name}.m"), m.to_device(&Device::Cpu)?.copy()?));
            state.push((format!("{name}.v"), v.to_device(&Device::Cpu)?.copy()?));
        }
        Ok(state)
    }

    /// Restores what [`AdamW::state`] returned.
    pub fn load_state(&mut self, state: &State) -> Result<()> {
        let shape = |parameter: &Parameter| (parameter.name.clone(), parameter.var.dims().to_vec());
        let moments = checked_moments(state, &self.parameters.iter().map(shape).collect::<Vec<_>>())?;
        for Parameter { name, var, m, v, .. } in &mut self.parameters {
            *m = moments[&format!("{name}.m")].to_device(var.device())?.to_dtype(var.dtype())?.copy()?;
            *v = moments[&format!("{name}.v")].to_device(var.device())?.to_dtype(var.dtype())?.copy()?;
        }
        Ok(())
    }
}

/// The dimension in which a tensor of some classes differs from that of all; `None` where it has none, or the classes are all.
fn axis_of_classes(part: &Var, whole: &Var) -> Option<usize> {
    part.dims().iter().zip(whole.dims()).position(|(part, whole)| part != whole)
}

impl Parameter {
    fn update(&mut self, gradient: &Tensor, step: &AdamWStep) -> Result<()> {
        let [rows, of] = self.rows;
        let step = &AdamWStep { step: (step.step * rows).div_ceil(of), ..*step };
        let Factors { keep, rate, root_correction } = step.factors();
        // Candle's gradients hold the graph that they were computed by, and moments would hold that of every step so far.
        let gradient = &gradient.detach();
        let keep = if self.var.rank() > 1 { keep } else { 1.0 };
        if self.var.device().is_cpu() && self.var.dtype() == DType::F32 && self.var.is_contiguous() {
            let gradient = gradient.contiguous()?;
            let [beta1, beta2] = [step.beta1, step.beta2].map(|beta| [beta as f32, (1.0 - beta) as f32]);
            self.m.inplace_op2(&gradient, &Mean { factors: beta1, squares: false })?;
            self.v.inplace_op2(&gradient, &Mean { factors: beta2, squares: true })?;
            let (inverse_root, epsilon) = ((1.0 / root_correction) as f32, step.epsilon as f32);
            let descent = Descent { keep: keep as f32, rate: rate as f32, inverse_root, epsilon };
            self.var.inplace_op3(&self.m, &self.v, &descent)?;
            return Ok(());
        }
        self.m = ((&self.m * step.beta1)? + (gradient * (1.0 - step.beta1))?)?;
        self.v = ((&self.v * step.beta2)? + (gradient.sqr()? * (1.0 - step.beta2))?)?;
        let denominator = ((self.v.sqrt()? / root_correction)? + step.epsilon)?;
        let kept = (self.var.as_tensor().detach() * keep)?;
        self.var.set(&(kept - ((&self.m / denominator)? * rate)?)?)?;
        Ok(())
    }
}

/// Numbers in a piece of work.
const PIECE: usize = 1 << 14;

/// A moment's step on the CPU, in place: `moment * factors[0] + x * factors[1]`, x the gradient or its square. The additions of 0 are
/// Candle's: they make -0 a 0, and results the same to the bit.
struct Mean {
    factors: [f32; 2],
    squares: bool,
}

impl InplaceOp2 for Mean {
    fn name(&self) -> &'static str {
        "a moment of AdamW"
    }

    fn cpu_fwd(
        &self,
        moment: &mut CpuStorage,
        at: &Layout,
        gradient: &CpuStorage,
        gradient_at: &Layout,
    ) -> candle_core::Result<()> {
        let ([old, new], squares) = (self.factors, self.squares);
        let (moment, gradient) = (numbers_mut(moment, at)?, numbers(gradient, gradient_at)?);
        let pieces = moment.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
        pieces.for_each(|(moment, gradient)| {
            for (moment, &g) in moment.iter_mut().zip(gradient) {
                let x = if squares { g * g } else { g };
                *moment = (*moment * old + 0.0) + (x * new + 0.0);
            }
        });
        Ok(())
    }
}

/// The weights' step on the CPU, in place, from both moments.
struct Descent {
    keep: f32,
    rate: f32,
    inverse_root: f32,
    epsilon: f32,
}

impl InplaceOp3 for Descent {
    fn name(&self) -> &'static str {
        "a step of AdamW"
    }

    fn cpu_fwd(
        &self,
        weights: &mut CpuStorage,
        at: &Layout,
        m: &CpuStorage,
        m_at: &Layout,
        v: &CpuStorage,
        v_at: &Layout,
    ) -> candle_core::Result<()> {
        let &Self { keep, rate, inverse_root, epsilon } = self;
        let (weights, m, v) = (numbers_mut(weights, at)?, numbers(m, m_at)?, numbers(v, v_at)?);
        let moments = m.par_chunks(PIECE).zip(v.par_chunks(PIECE));
        weights.par_chunks_mut(PIECE).zip(moments).for_each(|(weights, (m, v))| {
            for ((weight, &m), &v) in weights.iter_mut().zip(m).zip(v) {
                let denominator = (v.sqrt() * inverse_root + 0.0) + epsilon;
                *weight = (*weight * keep + 0.0) - (m / denominator * rate + 0.0);
            }
        });
        Ok(())
    }
}

fn numbers_mut<'a>(storage: &'a mut CpuStorage, at: &Layout) -> candle_core::Result<&'a mut [f32]> {
    match (storage, at.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => candle_core::bail!("AdamW in place needs contiguous numbers of f32"),
    }
}

fn numbers<'a>(storage: &'a CpuStorage, at: &Layout) -> candle_core::Result<&'a [f32]> {
    match (storage, at.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("AdamW in place needs contiguous numbers of f32"),
    }
}
