//! A projection of rows of numbers, the frozen embeddings of another model: a linear layer, or two with a ReLU between.
//!
//! ```text
//! x = row, or row * sqrt(inputs) / |row|         mean square 1, whatever the model's own scale
//! embedding = W x + b                            linear
//! embedding = W relu(V x + c) + b                with a hidden layer
//! ```
//!
//! Through Candle's operators and autograd, on every device: a step is two or four matrix products.

use crate::adamw::{AdamW, AdamWStep};
use crate::seam::{Owned, Owner, check_gradient};
use crate::state::matched;
use crate::{Encoder, Error, Gradients, Inputs, Result, State, Tape};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};

/// What a projection is: its widths, and what it does to its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projection {
    /// Numbers of a row.
    pub inputs: usize,
    /// ReLU units of the hidden layer; 0 for none.
    pub hidden: usize,
    /// Numbers of an embedding.
    pub outputs: usize,
    /// Whether rows are brought to mean square 1 first, so that only their direction counts.
    pub normalize: bool,
}

impl Projection {
    /// Names and shapes of its tensors, `(outputs, inputs)` and `(outputs,)` of each layer, in the order of computation.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let layer =
            |name: &str, ins, outs| [(format!("{name}.weight"), vec![outs, ins]), (format!("{name}.bias"), vec![outs])];
        match self.hidden {
            0 => layer("output", self.inputs, self.outputs).into(),
            hidden => [layer("hidden", self.inputs, hidden), layer("output", hidden, self.outputs)].concat(),
        }
    }
}

/// The projection as an encoder.
pub struct ProjectionEncoder {
    projection: Projection,
    device: Device,
    /// Weight and bias of each layer, in the order of [`Projection::tensors`].
    parameters: Vec<(String, Var)>,
    optimizer: AdamW,
    owner: Owner,
}

impl ProjectionEncoder {
    /// The projection with the weights of `state`, on `device`, in f32.
    ///
    /// # Errors
    /// [`Error::State`] for tensors that are missing, unknown or of another shape.
    pub fn new(projection: Projection, state: &State, device: &Device) -> Result<Self> {
        let tensors = projection.tensors();
        let values = matched(state, tensors.iter().cloned(), || "the projection's".into())?;
        let var = |(name, _): (String, _)| {
            let var = Var::from_tensor(&values[&name].to_device(device)?.to_dtype(DType::F32)?.copy()?)?;
            Ok((name, var))
        };
        let parameters = tensors.into_iter().map(var).collect::<Result<Vec<_>>>()?;
        let optimizer = AdamW::new(parameters.clone())?;
        Ok(Self { projection, device: device.clone(), parameters, optimizer, owner: Owner::new() })
    }

    /// Embeddings with their autograd graph.
    fn embed(&self, inputs: &Inputs) -> Result<Tensor> {
        let rows = inputs.rows()?;
        let Projection { inputs: expected, normalize, .. } = self.projection;
        if rows.width() != expected {
            return Err(Error::RowWidth { found: rows.width(), expected });
        }
        let mut x = Tensor::from_slice(rows.values(), (rows.count(), expected), &self.device)?;
        if normalize {
            let length = (x.sqr()?.mean_keepdim(1)?.sqrt()? + f64::from(f32::MIN_POSITIVE))?;
            x = x.broadcast_div(&length)?;
        }
        for (place, layer) in self.parameters.chunks_exact(2).enumerate() {
            if place > 0 {
                x = x.relu()?;
            }
            x = x.matmul(&layer[0].1.t()?)?.broadcast_add(&layer[1].1)?;
        }
        Ok(x)
    }
}

impl Encoder for ProjectionEncoder {
    fn forward_train(&mut self, inputs: &Inputs) -> Result<(Tensor, Tape)> {
        let embeddings = self.embed(inputs)?;
        Ok((embeddings.detach(), Tape(Owned::new(self.owner, embeddings))))
    }

    fn backward(&mut self, tape: Tape, grad: &Tensor) -> Result<Gradients> {
        let embeddings: Tensor = tape.0.open(self.owner)?;
        check_gradient(grad, [embeddings.dim(0)?, self.projection.outputs])?;
        let gradients: GradStore = (&embeddings * grad)?.sum_all()?.backward()?;
        Ok(Gradients(Owned::new(self.owner, gradients)))
    }

    fn apply(&mut self, gradients: Gradients, step: &AdamWStep) -> Result<()> {
        self.optimizer.step(gradients.0.view(self.owner)?, step)
    }

    fn forward(&self, inputs: &Inputs) -> Result<Tensor> {
        Ok(self.embed(inputs)?.detach())
    }

    fn dim(&self) -> usize {
        self.projection.outputs
    }

    fn state(&self) -> Result<State> {
        let saved =
            |(name, var): &(String, Var)| Ok((name.clone(), var.as_tensor().detach().to_device(&Device::Cpu)?.copy()?));
        self.parameters.iter().map(saved).collect()
    }

    fn optimizer_state(&self) -> Result<State> {
        self.optimizer.state()
    }

    fn load_optimizer_state(&mut self, state: &State) -> Result<()> {
        self.optimizer.load_state(state)
    }

    fn named_gradients(&self, gradients: &Gradients) -> Result<State> {
        let gradients: &GradStore = gradients.0.view(self.owner)?;
        let named = |(name, var): &(String, Var)| {
            let gradient = gradients.get(var).expect("the embeddings depend on every parameter");
            Ok((name.clone(), gradient.to_device(&Device::Cpu)?))
        };
        self.parameters.iter().map(named).collect()
    }
}
