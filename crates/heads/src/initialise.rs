//! How weights start: one rule for all heads, or Catalyst's own.
//!
//! Uniform: every weight is drawn from U(-b, b), b = sqrt(6 / (dim + classes)) (Glorot and Bengio, AISTATS 2010,
//! equation 16), biases are 0; a sub-centre starts like the only centre of another head. The numbers depend on the seed
//! and the position alone, so heads whose weights have one shape start equal.
//!
//! Catalyst: the bound of Glorot's rule counts a sub-centre's tensor `(K, dim, classes)` as a convolution's, b =
//! sqrt(6 / (dim classes + K classes)); CurricularFace draws from N(0, 0.01); the linear layer weights and bias from
//! U(-b, b), b = 1 / sqrt(dim) (PyTorch's `nn.Linear`).

use crate::Result;
use candle_core::{DType, Device, Tensor};
use faceoff_runs::HeadInit;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};

/// Deviation of CurricularFace's weights under Catalyst's rule.
const CATALYST_CURRICULAR_DEVIATION: f64 = 0.01;

pub(crate) struct Initialiser<'a> {
    pub(crate) init: HeadInit,
    pub(crate) seed: u64,
    pub(crate) dim: usize,
    pub(crate) classes: usize,
    pub(crate) device: &'a Device,
    pub(crate) dtype: DType,
}

/// Stream of the weights, and of the bias.
const WEIGHT_STREAM: u64 = 0;
const BIAS_STREAM: u64 = 1;

impl Initialiser<'_> {
    fn glorot(&self) -> f64 {
        (6.0 / (self.dim + self.classes) as f64).sqrt()
    }

    /// `(classes, dim)`, the same under both rules.
    pub(crate) fn weight(&self) -> Result<Tensor> {
        self.uniform(&[self.classes, self.dim], self.glorot(), WEIGHT_STREAM)
    }

    /// `(sub_centers, classes, dim)`.
    pub(crate) fn sub_center_weight(&self, sub_centers: usize) -> Result<Tensor> {
        let bound = match self.init {
            HeadInit::Uniform => self.glorot(),
            HeadInit::Catalyst => (6.0 / (self.classes * (self.dim + sub_centers)) as f64).sqrt(),
        };
        self.uniform(&[sub_centers, self.classes, self.dim], bound, WEIGHT_STREAM)
    }

    /// `(classes, dim)`.
    pub(crate) fn curricular_weight(&self) -> Result<Tensor> {
        match self.init {
            HeadInit::Uniform => self.weight(),
            HeadInit::Catalyst => {
                let normal = |random: &mut ChaCha8Rng| -> f64 {
                    let x: f64 = StandardNormal.sample(random);
                    CATALYST_CURRICULAR_DEVIATION * x
                };
                self.draw(&[self.classes, self.dim], WEIGHT_STREAM, normal)
            }
        }
    }

    /// `(classes, dim)`.
    pub(crate) fn linear_weight(&self) -> Result<Tensor> {
        match self.init {
            HeadInit::Uniform => self.weight(),
            HeadInit::Catalyst => self.uniform(&[self.classes, self.dim], self.linear_bound(), WEIGHT_STREAM),
        }
    }

    /// `(classes,)`.
    pub(crate) fn bias(&self) -> Result<Tensor> {
        match self.init {
            HeadInit::Uniform => Ok(Tensor::zeros(self.classes, self.dtype, self.device)?),
            HeadInit::Catalyst => self.uniform(&[self.classes], self.linear_bound(), BIAS_STREAM),
        }
    }

    fn linear_bound(&self) -> f64 {
        1.0 / (self.dim as f64).sqrt()
    }

    fn uniform(&self, shape: &[usize], bound: f64, stream: u64) -> Result<Tensor> {
        let distribution = Uniform::new(-bound, bound).expect("the bound is positive and finite");
        self.draw(shape, stream, |random| distribution.sample(random))
    }

    fn draw(
        &self,
        shape: &[usize],
        stream: u64,
        mut sample: impl FnMut(&mut ChaCha8Rng) -> f64,
    ) -> Result<Tensor> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(stream);
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| sample(&mut random)).collect();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.dtype)?.to_device(self.device)?)
    }
}
