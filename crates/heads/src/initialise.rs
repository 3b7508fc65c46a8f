//! How weights start: one rule for all heads, or Catalyst's own.
//!
//! Uniform: every weight is drawn from U(-b, b), b = sqrt(6 / (dim + classes)) (Glorot and Bengio, AISTATS 2010,
//! equation 16), biases are 0; a sub-centre starts like the only centre of another head. The numbers depend on the seed
//! and the position alone, so heads whose weights have one shape start equal.
//!
//! Catalyst: each head's file says how, where it is another rule.

use crate::Result;
use candle_core::{DType, Device, Tensor, Var};
use faceoff_runs::HeadInit;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};

/// Where a head's fresh weights come from.
pub(crate) struct Initialiser<'a> {
    pub(crate) init: HeadInit,
    /// Without one all that is drawn is 0: for a look whether the head can be made at all.
    pub(crate) seed: Option<u64>,
    pub(crate) dim: usize,
    pub(crate) classes: usize,
    pub(crate) device: &'a Device,
    pub(crate) dtype: DType,
}

/// Stream of the weights, and of the bias.
const WEIGHT_STREAM: u64 = 0;
const BIAS_STREAM: u64 = 1;

/// What weights are drawn from.
#[derive(Clone, Copy)]
pub(crate) enum Draw {
    /// U(-bound, bound).
    Uniform(f64),
    /// N(0, deviation).
    Normal(f64),
}

impl Initialiser<'_> {
    fn glorot(&self) -> Draw {
        Draw::Uniform((6.0 / (self.dim + self.classes) as f64).sqrt())
    }

    /// `(classes, dim)`, the same under both rules.
    pub(crate) fn weight(&self) -> Result<Var> {
        self.weight_of(&[self.classes, self.dim])
    }

    /// A weight of another shape, or of another rule of Catalyst's.
    pub(crate) fn weight_as(&self, shape: &[usize], catalyst: Draw) -> Result<Var> {
        let draw = match self.init {
            HeadInit::Uniform => self.glorot(),
            HeadInit::Catalyst => catalyst,
        };
        self.draw(shape, draw, WEIGHT_STREAM)
    }

    /// A weight of another shape, the same under both rules.
    pub(crate) fn weight_of(&self, shape: &[usize]) -> Result<Var> {
        self.weight_as(shape, self.glorot())
    }

    /// Known numbers, `(count,)`.
    pub(crate) fn constant(&self, values: &[f64]) -> Result<Var> {
        Ok(Var::from_tensor(&Tensor::new(values, &Device::Cpu)?.to_dtype(self.dtype)?.to_device(self.device)?)?)
    }

    /// `(classes,)`.
    pub(crate) fn bias(&self, catalyst: Draw) -> Result<Var> {
        match self.init {
            HeadInit::Uniform => Ok(Var::zeros(self.classes, self.dtype, self.device)?),
            HeadInit::Catalyst => self.draw(&[self.classes], catalyst, BIAS_STREAM),
        }
    }

    fn draw(&self, shape: &[usize], draw: Draw, stream: u64) -> Result<Var> {
        let Some(seed) = self.seed else { return Ok(Var::zeros(shape, self.dtype, self.device)?) };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        let count = shape.iter().product();
        let values: Vec<f64> = match draw {
            Draw::Uniform(bound) => {
                let uniform = Uniform::new(-bound, bound).expect("the bound is positive and finite");
                uniform.sample_iter(random).take(count).collect()
            }
            Draw::Normal(deviation) => {
                let normal = StandardNormal.sample_iter(random);
                normal.take(count).map(|x: f64| deviation * x).collect()
            }
        };
        let weight = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.dtype)?;
        Ok(Var::from_tensor(&weight.to_device(self.device)?)?)
    }
}
