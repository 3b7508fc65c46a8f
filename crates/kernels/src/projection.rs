//! A projection of rows of numbers, the frozen embeddings of another model: a linear layer, or two with a ReLU between.
//!
//! ```text
//! x = row, or row * sqrt(inputs) / |row|         mean square 1, whatever the model's own scale
//! embedding = W x + b                            linear
//! embedding = W relu(V x + c) + b                with a hidden layer
//! ```
//!
//! Through Candle's operators, on every device, and with a backward pass of its own: autograd would also ask for the gradient of the rows,
//! which nobody needs, and a step is hardly more than its matrix products.

use crate::adamw::{AdamW, AdamWStep};
use crate::seam::{Owned, Owner, check_gradient};
use crate::state::matched;
use crate::{Encoder, Error, Gradients, Inputs, Result, State, Tape};
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

    /// What each layer sees, the rows first, and the embeddings last.
    fn layers(&self, inputs: &Inputs) -> Result<Vec<Tensor>> {
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
        let mut seen = vec![x];
        for (place, layer) in self.parameters.chunks_exact(2).enumerate() {
            let [weight, bias] = [0, 1].map(|part| layer[part].1.as_detached_tensor());
            let x = &seen[place];
            let y = x.matmul(&weight.t()?)?.broadcast_add(&bias)?;
            let is_last = 2 * (place + 1) == self.parameters.len();
            seen.push(if is_last { y } else { y.relu()? });
        }
        Ok(seen)
    }
}

impl Encoder for ProjectionEncoder {
    fn forward_train(&mut self, inputs: &Inputs) -> Result<(Tensor, Tape)> {
        let mut seen = self.layers(inputs)?;
        let embeddings = seen.pop().expect("there is a layer");
        Ok((embeddings, Tape(Owned::new(self.owner, seen))))
    }

    fn backward(&mut self, tape: Tape, grad: &Tensor) -> Result<Gradients> {
        let seen: Vec<Tensor> = tape.0.open(self.owner)?;
        check_gradient(grad, [seen[0].dim(0)?, self.projection.outputs])?;
        let mut gradients = Vec::new();
        let mut grad = grad.detach();
        for (place, x) in seen.iter().enumerate().rev() {
            let bias = grad.sum(0)?;
            let weight = grad.t()?.matmul(x)?;
            gradients.splice(0..0, [weight, bias]);
            if place > 0 {
                // A unit that was 0 passes nothing on.
                let weight = self.parameters[2 * place].1.as_detached_tensor();
                grad = (grad.matmul(&weight)? * x.gt(0.0)?.to_dtype(x.dtype())?)?;
            }
        }
        Ok(Gradients(Owned::new(self.owner, gradients)))
    }

    fn apply(&mut self, gradients: Gradients, step: &AdamWStep) -> Result<()> {
        self.optimizer.step_along(gradients.0.view::<Vec<Tensor>>(self.owner)?, step)
    }

    fn forward(&self, inputs: &Inputs) -> Result<Tensor> {
        Ok(self.layers(inputs)?.pop().expect("there is a layer"))
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
        let gradients = gradients.0.view::<Vec<Tensor>>(self.owner)?;
        let named =
            |((name, _), gradient): (&(String, Var), &Tensor)| Ok((name.clone(), gradient.to_device(&Device::Cpu)?));
        self.parameters.iter().zip(gradients).map(named).collect()
    }
}
