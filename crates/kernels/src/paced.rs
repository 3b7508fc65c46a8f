//! An encoder at a pace of its own beside the head: frozen, or with another learning rate.

use crate::seam::{Owned, Owner};
use crate::{AdamWStep, Encoder, Gradients, Inputs, Result, State, Tape};
use candle_core::Tensor;

/// An encoder whose learning rate is that of a step times a factor. With the factor 0 it stays as it is: it embeds as in inference, with
/// the running statistics of its batch norms, in training too.
pub struct PacedEncoder {
    encoder: Box<dyn Encoder>,
    factor: f64,
    owner: Owner,
}

impl PacedEncoder {
    /// `encoder` at `factor` times the learning rate.
    pub fn new(encoder: Box<dyn Encoder>, factor: f64) -> Self {
        Self { encoder, factor, owner: Owner::new() }
    }

    fn is_frozen(&self) -> bool {
        self.factor == 0.0
    }
}

impl Encoder for PacedEncoder {
    fn forward_train(&mut self, inputs: &Inputs) -> Result<(Tensor, Tape)> {
        match self.is_frozen() {
            true => Ok((self.encoder.forward(inputs)?, Tape(Owned::new(self.owner, ())))),
            false => self.encoder.forward_train(inputs),
        }
    }

    fn backward(&mut self, tape: Tape, grad: &Tensor) -> Result<Gradients> {
        match self.is_frozen() {
            true => Ok(Gradients(Owned::new(self.owner, tape.0.open::<()>(self.owner)?))),
            false => self.encoder.backward(tape, grad),
        }
    }

    fn apply(&mut self, gradients: Gradients, step: &AdamWStep) -> Result<()> {
        match self.is_frozen() {
            true => gradients.0.open(self.owner),
            false => {
                let step = AdamWStep { learning_rate: self.factor * step.learning_rate, ..*step };
                self.encoder.apply(gradients, &step)
            }
        }
    }

    fn forward(&self, inputs: &Inputs) -> Result<Tensor> {
        self.encoder.forward(inputs)
    }

    fn dim(&self) -> usize {
        self.encoder.dim()
    }

    fn state(&self) -> Result<State> {
        self.encoder.state()
    }

    fn optimizer_state(&self) -> Result<State> {
        self.encoder.optimizer_state()
    }

    fn load_optimizer_state(&mut self, state: &State) -> Result<()> {
        self.encoder.load_optimizer_state(state)
    }

    fn named_gradients(&self, gradients: &Gradients) -> Result<State> {
        match self.is_frozen() {
            true => gradients.0.view::<()>(self.owner).map(|()| State::new()),
            false => self.encoder.named_gradients(gradients),
        }
    }
}
