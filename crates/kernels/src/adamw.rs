//! AdamW with moments that can be saved, so that an interrupted training goes on bit for bit.
//!
//! Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv:1711.05101, algorithm 2, in the form and order
//! of operations of PyTorch's `torch.optim.AdamW`. As there, the bias corrections use the beta1 of the current step,
//! also where a schedule cycles it.

use crate::state::checked_moments;
use crate::{Result, State};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};

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
            Ok(Parameter { name, var, m, v })
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

    /// The moments as `<name>.m` and `<name>.v`, on the CPU.
    pub fn state(&self) -> Result<State> {
        let mut state = State::new();
        for Parameter { name, m, v, .. } in &self.parameters {
            state.push((format!("{name}.m"), m.to_device(&Device::Cpu)?));
            state.push((format!("{name}.v"), v.to_device(&Device::Cpu)?));
        }
        Ok(state)
    }

    /// Restores what [`AdamW::state`] returned.
    pub fn load_state(&mut self, state: &State) -> Result<()> {
        let shape = |parameter: &Parameter| (parameter.name.clone(), parameter.var.dims().to_vec());
        let moments = checked_moments(state, &self.parameters.iter().map(shape).collect::<Vec<_>>())?;
        for Parameter { name, var, m, v } in &mut self.parameters {
            *m = moments[&format!("{name}.m")].to_device(var.device())?.to_dtype(var.dtype())?;
            *v = moments[&format!("{name}.v")].to_device(var.device())?.to_dtype(var.dtype())?;
        }
        Ok(())
    }
}

impl Parameter {
    fn update(&mut self, gradient: &Tensor, step: &AdamWStep) -> Result<()> {
        let Factors { keep, rate, root_correction } = step.factors();
        // Candle's gradients hold the graph that they were computed by, and moments would hold that of every step so far.
        let gradient = &gradient.detach();
        self.m = ((&self.m * step.beta1)? + (gradient * (1.0 - step.beta1))?)?;
        self.v = ((&self.v * step.beta2)? + (gradient.sqr()? * (1.0 - step.beta2))?)?;
        let denominator = ((self.v.sqrt()? / root_correction)? + step.epsilon)?;
        let weights = self.var.as_tensor().detach();
        let kept = if self.var.rank() > 1 { (&weights * keep)? } else { weights };
        self.var.set(&(kept - ((&self.m / denominator)? * rate)?)?)?;
        Ok(())
    }
}
