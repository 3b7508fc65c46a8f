//! An encoder as an ONNX file: everything from pixels in [0, 1] to embeddings of unit length, in one graph.
//!
//! ```text
//! images (N, 3, size, size) -> (x - mean) / deviation -> convolutions, their batch norms folded in -> mean over the map   features
//! rows (N, numbers) [-> brought to mean square 1]     -> linear layers                                                    features
//! features -> features / |features|                      embedding (N, dim)
//! features or embedding -> class vectors, bias           scores (N, classes), where the head has one vector a class
//! ```
//!
//! The blur of BlurPool is a convolution of each channel by itself, with the same fixed weights.
//!
//! Operators are those of opset 13, which every runtime has. A batch norm with running statistics is a factor and a shift a channel,
//! `w' = w g / sqrt(v + e)` and `b' = b - m g / sqrt(v + e)`, worked out in f64. The normalisation of the pixels is not folded too: the
//! border that the first convolution adds is of zeros behind it.

use crate::proto::{
    Attribute, Dimension, Entry, FLOAT, Graph, INT, INTS, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type,
    Value,
};
use faceoff_kernels::resnet::{BATCH_NORM_EPSILON, ConvBatchNorm, DEVIATION, MEAN};
use faceoff_kernels::{Architecture, Projection};
use faceoff_runs::{Dtype, TensorFile};
use prost::Message;

/// Version of the operators.
pub const OPSET: i64 = 13;
/// Version of the file format that came with them.
const IR_VERSION: i64 = 7;
/// Name of the input of an encoder of images.
pub const INPUT_IMAGES: &str = "images";
/// Name of the input of a projection.
pub const INPUT_ROWS: &str = "rows";
/// Name of the output.
pub const OUTPUT: &str = "embedding";
/// Name of the output with the scores of the classes.
pub const SCORES: &str = "scores";
/// A vector that is shorter is divided by this instead of its length.
const SHORTEST: f32 = 1e-30;

/// What can be exported.
#[derive(Debug, Clone, Copy)]
pub enum Exported<'a> {
    /// An encoder of images with sides of so many pixels.
    ResNet(&'a Architecture, usize),
    /// A projection of rows.
    Projection(&'a Projection),
}

/// How a head scores classes: products with one vector a class.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// (classes, dim).
    pub vectors: Vec<f32>,
    /// (classes,).
    pub bias: Vec<f32>,
    /// Whether embeddings of unit length are multiplied, or features as they are.
    pub of_unit: bool,
}

/// Why there is no ONNX file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor is missing, or not as the architecture has it.
    #[error(
        "the encoder's `{name}` is {found}, but it must be {expected}; the weights are those of another encoder, or damaged"
    )]
    Weights {
        /// The tensor.
        name: String,
        /// What was found.
        found: String,
        /// Type and sizes that it must have.
        expected: String,
    },
    /// The weights cannot be read.
    #[error(transparent)]
    Runs(#[from] faceoff_runs::Error),
}

/// The bytes of the file. `weights` have torchvision's names, `metadata` becomes the model's `metadata_props`.
///
/// # Errors
/// Weights that are not those of the encoder.
pub fn onnx(
    exported: Exported<'_>,
    weights: &TensorFile,
    scores: Option<&Scores>,
    about: &str,
    metadata: &[(&str, String)],
) -> Result<Vec<u8>, Error> {
    let mut graph = Builder { weights, graph: Graph { name: "encoder".into(), ..Graph::default() } };
    let (input, features, dim) = match exported {
        Exported::ResNet(architecture, size) => {
            let said = "RGB in [0, 1], channels first; mean and deviation are inside";
            let input = value(INPUT_IMAGES, &[3, size], size, said);
            (input, graph.resnet(architecture)?, architecture.dim())
        }
        Exported::Projection(projection) => {
            let input =
                value(INPUT_ROWS, &[], projection.inputs, "numbers of the model whose embeddings are projected");
            (input, graph.projection(projection)?, projection.outputs)
        }
    };
    graph.graph.input.push(input);
    let length = graph.node("ReduceL2", "length", &[&features], [ints("axes", [1]), int("keepdims", 1)]);
    let shortest = graph.constant("shortest", &[1, 1], &[SHORTEST]);
    let length = graph.node("Max", "length at least", &[&length, &shortest], []);
    graph.node("Div", OUTPUT, &[&features, &length], []);
    graph.graph.output.push(value(OUTPUT, &[], dim, "of unit length"));
    if let Some(Scores { vectors, bias, of_unit }) = scores {
        let weight = graph.constant("class vectors", &[bias.len(), dim], vectors);
        let bias_name = graph.constant("class bias", &[bias.len()], bias);
        let of = if *of_unit { OUTPUT } else { &features };
        graph.node("Gemm", SCORES, &[of, &weight, &bias_name], [int("transB", 1)]);
        graph.graph.output.push(value(SCORES, &[], bias.len(), "of the classes; the highest is the prediction"));
    }
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "faceoff".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: about.into(),
        graph: graph.graph,
        opset_import: vec![OperatorSet { version: OPSET }],
        metadata_props: metadata
            .iter()
            .map(|(key, value)| Entry { key: key.to_string(), value: value.clone() })
            .collect(),
    };
    Ok(model.encode_to_vec())
}

/// A graph in the making. What a node gives bears the node's name.
struct Builder<'a> {
    weights: &'a TensorFile,
    graph: Graph,
}

impl Builder<'_> {
    fn node<const N: usize>(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attribute: [Attribute; N],
    ) -> String {
        let input = inputs.iter().map(ToString::to_string).collect();
        let (op_type, attribute) = (operator.into(), attribute.into());
        // Some readers keep nodes and what they give in one list of names.
        let of_node = format!("{operator} {name}");
        self.graph.node.push(Node { input, output: vec![name.into()], name: of_node, op_type, attribute });
        name.into()
    }

    fn constant(&mut self, name: &str, sizes: &[usize], values: &[f32]) -> String {
        let dims = sizes.iter().map(|&size| size as i64).collect();
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph.initializer.push(Tensor { dims, data_type: FLOAT, name: name.into(), raw_data });
        name.into()
    }

    /// The numbers of a tensor of these sizes.
    fn read(&self, name: &str, sizes: &[usize]) -> Result<Vec<f32>, Error> {
        let wrong =
            |found: String| Error::Weights { name: name.into(), found, expected: format!("F32 of sizes {sizes:?}") };
        let tensors = self.weights.tensors()?;
        let tensor = tensors.tensor(name).map_err(|_| wrong("missing".into()))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != sizes {
            return Err(wrong(format!("{:?} of sizes {:?}", tensor.dtype(), tensor.shape())));
        }
        let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(wrong(format!("not finite: it holds {value}"))),
            None => Ok(values),
        }
    }

    /// A convolution with its batch norm folded in.
    fn convolution(&mut self, layer: &ConvBatchNorm, input: &str) -> Result<String, Error> {
        let ConvBatchNorm { conv, norm, shape } = layer;
        let sizes = [shape.out_channels, shape.in_channels, shape.kernel, shape.kernel];
        let mut kernels = self.read(&format!("{conv}.weight"), &sizes)?;
        let part = |part: &str| self.read(&format!("{norm}.{part}"), &[shape.out_channels]);
        let [gain, bias, mean, variance] =
            [part("weight")?, part("bias")?, part("running_mean")?, part("running_var")?];
        let mut shift = Vec::with_capacity(bias.len());
        for (channel, kernel) in kernels.chunks_exact_mut(sizes[1..].iter().product()).enumerate() {
            let factor = f64::from(gain[channel]) / (f64::from(variance[channel]) + BATCH_NORM_EPSILON).sqrt();
            kernel.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * factor) as f32);
            shift.push((f64::from(bias[channel]) - f64::from(mean[channel]) * factor) as f32);
        }
        let weight = self.constant(&format!("{conv}.weight"), &sizes, &kernels);
        let bias = self.constant(&format!("{conv}.bias"), &[shape.out_channels], &shift);
        let both = |size: usize| [size as i64; 2];
        let attributes = [
            ints("kernel_shape", both(shape.kernel)),
            ints("pads", [shape.padding as i64; 4]),
            ints("strides", both(shape.stride)),
        ];
        Ok(self.node("Conv", conv, &[input, &weight, &bias], attributes))
    }

    /// The blur of so many channels; `name` is its own.
    fn blur(&mut self, name: &str, channels: usize, input: &str) -> String {
        let filter = [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0].map(|weight: f32| weight / 16.0);
        let weight = self.constant(&format!("{name} weight"), &[channels, 1, 3, 3], &filter.repeat(channels));
        let attributes = [ints("kernel_shape", [3, 3]), ints("pads", [1; 4]), int("group", channels as i64)];
        self.node("Conv", name, &[input, &weight], attributes)
    }

    /// A ResNet; the name of the features.
    fn resnet(&mut self, architecture: &Architecture) -> Result<String, Error> {
        let plan = architecture.plan();
        let mean = self.constant("mean", &[1, 3, 1, 1], &MEAN);
        let deviation = self.constant("deviation", &[1, 3, 1, 1], &DEVIATION);
        let x = self.node("Sub", "centered", &[INPUT_IMAGES, &mean], []);
        let x = self.node("Div", "normalized", &[&x, &deviation], []);
        let x = self.convolution(&plan.layers[0], &x)?;
        let x = self.node("Relu", "relu", &[&x], []);
        let pool = [ints("kernel_shape", [3, 3]), ints("pads", [1; 4]), ints("strides", [2, 2])];
        let mut x = self.node("MaxPool", "maxpool", &[&x], pool);
        for (place, block) in plan.blocks.iter().enumerate() {
            let channels = |layer: usize| plan.layers[layer].shape.in_channels;
            let halved = match block.blurred {
                Some(_) => self.blur(&format!("block {place} blur"), channels(block.first), &x),
                None => x.clone(),
            };
            let shortcut = match block.downsample {
                Some(layer) => self.convolution(&plan.layers[layer], &halved)?,
                None => x.clone(),
            };
            let input = if block.blurred == Some(block.first) { &halved } else { &x };
            let mut branch = self.convolution(&plan.layers[block.first], input)?;
            for layer in block.first + 1..=block.last {
                let mut inner = self.node("Relu", &format!("{} relu", plan.layers[layer - 1].norm), &[&branch], []);
                if block.blurred == Some(layer) {
                    inner = self.blur(&format!("{} blur", plan.layers[layer].conv), channels(layer), &inner);
                }
                branch = self.convolution(&plan.layers[layer], &inner)?;
            }
            let sum = self.node("Add", &format!("block {place} sum"), &[&branch, &shortcut], []);
            x = self.node("Relu", &format!("block {place}"), &[&sum], []);
        }
        let x = self.node("GlobalAveragePool", "avgpool", &[&x], []);
        Ok(self.node("Flatten", "features", &[&x], [int("axis", 1)]))
    }

    /// A projection of rows; the name of the features.
    fn projection(&mut self, projection: &Projection) -> Result<String, Error> {
        let mut x = INPUT_ROWS.to_string();
        if projection.normalize {
            let squares = self.node("Mul", "squares", &[&x, &x], []);
            let mean = self.node("ReduceMean", "mean square", &[&squares], [ints("axes", [1]), int("keepdims", 1)]);
            let root = self.node("Sqrt", "root mean square", &[&mean], []);
            let least = self.constant("least", &[1, 1], &[f32::MIN_POSITIVE]);
            let root = self.node("Add", "root mean square at least", &[&root, &least], []);
            x = self.node("Div", "normalized", &[&x, &root], []);
        }
        let tensors = projection.tensors();
        for (place, layer) in tensors.chunks_exact(2).enumerate() {
            let mut read = |(name, sizes): &(String, Vec<usize>)| {
                let values = self.read(name, sizes)?;
                Ok::<_, Error>(self.constant(name, sizes, &values))
            };
            let (weight, bias) = (read(&layer[0])?, read(&layer[1])?);
            let is_last = 2 * (place + 1) == tensors.len();
            let name = if is_last { "features" } else { "hidden" };
            x = self.node("Gemm", name, &[&x, &weight, &bias], [int("transB", 1)]);
            if !is_last {
                x = self.node("Relu", "relu", &[&x], []);
            }
        }
        Ok(x)
    }
}

fn int(name: &str, value: i64) -> Attribute {
    Attribute { name: name.into(), i: Some(value), kind: INT, ..Attribute::default() }
}

fn ints<const N: usize>(name: &str, values: [i64; N]) -> Attribute {
    Attribute { name: name.into(), ints: values.into(), kind: INTS, ..Attribute::default() }
}

/// An f32 input or output: any number of things with these sizes, `last` the last of them.
fn value(name: &str, sizes: &[usize], last: usize, doc_string: &str) -> Value {
    let any = Dimension { dim_param: Some("N".into()), dim_value: None };
    let fixed = |&size: &usize| Dimension { dim_value: Some(size as i64), dim_param: None };
    let dim = [any].into_iter().chain(sizes.iter().map(fixed)).chain([fixed(&last)]).collect();
    let tensor_type = TensorType { elem_type: FLOAT, shape: Shape { dim } };
    Value { name: name.into(), r#type: Type { tensor_type }, doc_string: doc_string.into() }
}
