//! Writes the ONNX file of a network.
//!
//! Owns the required subset of ONNX's schema, with the official field numbers (onnx.proto, IR version 8), and the graph. Guarantees:
//! the file takes raw feature values, including missing and infinite ones, and computes the same as [`Network::score`]; the same
//! network and identity give the same bytes. Limits: operator set 13, which runtimes have supported since 2020.

use super::{
    Network, Ranges,
    network::{LIMIT, Layer},
    quantise::{MIDDLE, whole},
};
use crate::inference::{Calibration, metadata};
use prost::Message;
use serde::Serialize;

/// ONNX's number of the element type float32.
const FLOAT: i32 = 1;
/// Its number of unsigned 8-bit integers.
const UINT8: i32 = 2;
/// `AttributeProto.AttributeType.INT`
const INT: i32 = 2;
/// IR version 8, from ONNX 1.10 (2021).
const IR_VERSION: i64 = 8;
/// The first operator set that has all operators of the graph in the form used here.
const OPERATOR_SET: i64 = 13;

/// The metadata of a model file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Identity {
    /// The model's name.
    pub name: String,
    /// Its version; readers default to the start of the file's hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The fingerprint of its training features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The calibration of its scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// `ModelProto`
#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(string, tag = "3")]
    producer_version: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    metadata_props: Vec<Property>,
}

/// `OperatorSetIdProto`
#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

/// `StringStringEntryProto`
#[derive(Clone, PartialEq, Message)]
struct Property {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// `GraphProto`
#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

/// `NodeProto`
#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

/// `AttributeProto`; only integers are used.
#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "3")]
    i: i64,
    #[prost(int32, tag = "20")]
    kind: i32,
}

/// `TensorProto`
#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

/// `ValueInfoProto`
#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Type>,
}

/// `TypeProto`; only the tensor is used.
#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

/// `TypeProto.Tensor`
#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

/// `TensorShapeProto`
#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`
#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(oneof = "Extent", tags = "1, 2")]
    extent: Option<Extent>,
}

/// A fixed or named dimension.
#[derive(Clone, PartialEq, prost::Oneof)]
enum Extent {
    #[prost(int64, tag = "1")]
    Value(i64),
    #[prost(string, tag = "2")]
    Named(String),
}

/// The bytes of the ONNX file: input `input` [rows, features], output `score` [rows, 1].
pub fn encode(network: &Network, features: &[String], identity: &Identity) -> Vec<u8> {
    file(network, features, identity, None)
}

/// As [`encode`], with the layers in 8-bit integers.
pub fn encode_quantised(network: &Network, features: &[String], identity: &Identity, ranges: &Ranges) -> Vec<u8> {
    file(network, features, identity, Some(ranges))
}

fn file(network: &Network, features: &[String], identity: &Identity, ranges: Option<&Ranges>) -> Vec<u8> {
    let properties = [
        (metadata::NAME, Some(identity.name.clone())),
        (metadata::VERSION, identity.version.clone()),
        (metadata::FEATURES, Some(json(&features))),
        (metadata::FINGERPRINT, identity.fingerprint.clone()),
        (metadata::CALIBRATION, identity.calibration.as_ref().map(json)),
        (metadata::BASELINE, Some(json(&network.mean))),
    ];
    let metadata_props = properties
        .into_iter()
        .filter_map(|(key, value)| Some(Property { key: key.to_owned(), value: value? }))
        .collect();
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(Drawing::default().finish(network, ranges)),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPERATOR_SET }],
        metadata_props,
    };
    model.encode_to_vec()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names and numbers are written as JSON")
}

/// A graph that is being drawn.
#[derive(Default)]
struct Drawing {
    nodes: Vec<Node>,
    constants: Vec<Tensor>,
}

impl Drawing {
    /// Adds a node; its name is that of its output.
    fn node(&mut self, op_type: &str, input: &[&str], output: &str) {
        self.nodes.push(Node {
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op_type.to_owned(),
            attribute: Vec::new(),
        });
    }

    /// Adds a constant.
    fn floats(&mut self, name: &str, dims: &[i64], values: &[f32]) {
        self.constants.push(Tensor {
            dims: dims.to_vec(),
            data_type: FLOAT,
            float_data: values.to_vec(),
            name: name.to_owned(),
            raw_data: Vec::new(),
        });
    }

    /// Adds a constant of small integers.
    fn bytes(&mut self, name: &str, dims: &[i64], values: Vec<u8>) {
        self.constants.push(Tensor {
            dims: dims.to_vec(),
            data_type: UINT8,
            float_data: Vec::new(),
            name: name.to_owned(),
            raw_data: values,
        });
    }

    /// Adds the rounding of a layer's input to integers.
    fn rounded(&mut self, input: &str, (step, zero): (f32, u8)) {
        let [rounded, size, nil] = ["rounded", "step", "zero"].map(|part| format!("{input}_{part}"));
        self.floats(&size, &[], &[step]);
        self.bytes(&nil, &[], vec![zero]);
        self.node("QuantizeLinear", &[input, &size, &nil], &rounded);
    }

    /// Adds a layer in integers, whose input has been rounded with this step.
    fn whole_layer(&mut self, layer: &Layer, input: &str, output: &str, step: f32) {
        let units = layer.units();
        let inputs = layer.weight.len() / units;
        let (weights, scales) = whole(layer);
        let [weight, middle, scale, bias] =
            ["weight", "middle", "scale", "bias"].map(|part| format!("{output}_{part}"));
        self.bytes(&weight, &[inputs as i64, units as i64], weights);
        self.bytes(&middle, &[], vec![MIDDLE]);
        self.floats(&scale, &[units as i64], &scales.iter().map(|scale| scale * step).collect::<Vec<_>>());
        self.floats(&bias, &[units as i64], &layer.bias);
        let [product, float, scaled] = ["product", "float", "scaled"].map(|part| format!("{output}_{part}"));
        let [rounded, nil] = ["rounded", "zero"].map(|part| format!("{input}_{part}"));
        self.node("MatMulInteger", &[&rounded, &weight, &nil, &middle], &product);
        self.node("Cast", &[&product], &float);
        let to = Attribute { name: "to".to_owned(), i: FLOAT.into(), kind: INT };
        self.nodes.last_mut().expect("a node was added").attribute.push(to);
        self.node("Mul", &[&float, &scale], &scaled);
        self.node("Add", &[&scaled, &bias], output);
    }

    /// Adds a layer.
    fn layer(&mut self, layer: &Layer, input: &str, output: &str) {
        let units = layer.units();
        let inputs = layer.weight.len() / units;
        let stem = output.replace("log_odds", "output");
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{stem}_{part}"));
        self.floats(&weight, &[inputs as i64, units as i64], &layer.weight);
        self.floats(&bias, &[units as i64], &layer.bias);
        self.node("Gemm", &[input, &weight, &bias], output);
    }

    /// Adds a branch; in integers if there are steps of the inputs of its layers.
    fn branch(&mut self, branch: &[Layer], prefix: &str, steps: Option<Vec<(f32, u8)>>) {
        let last = branch.len() - 1;
        let mut input = "limited".to_owned();
        for (at, layer) in branch.iter().enumerate() {
            // A single hidden layer needs no number.
            let number = if last == 1 { String::new() } else { format!("_{}", at + 1) };
            let [hidden, rectified] = ["hidden", "rectified"].map(|name| format!("{prefix}{name}{number}"));
            let output = if at == last { format!("{prefix}log_odds") } else { hidden };
            match &steps {
                None => self.layer(layer, &input, &output),
                Some(steps) => {
                    // All branches share the first input.
                    if at > 0 {
                        self.rounded(&input, steps[at]);
                    }
                    self.whole_layer(layer, &input, &output, steps[at].0);
                }
            }
            if at < last {
                self.node("Relu", &[&output], &rectified);
            }
            input = rectified;
        }
    }

    fn finish(mut self, network: &Network, ranges: Option<&Ranges>) -> Graph {
        let width = network.width() as i64;
        self.floats("mean", &[1, width], &network.mean);
        self.floats("deviation", &[1, width], &network.deviation);
        self.floats("least", &[], &[-LIMIT]);
        self.floats("most", &[], &[LIMIT]);
        self.node("IsNaN", &["input"], "is_nan");
        self.node("IsInf", &["input"], "is_infinite");
        self.node("Or", &["is_nan", "is_infinite"], "is_missing");
        self.node("Where", &["is_missing", "mean", "input"], "clean");
        self.node("Sub", &["clean", "mean"], "centred");
        self.node("Div", &["centred", "deviation"], "scaled");
        self.node("Clip", &["scaled", "least", "most"], "limited");
        if let Some(ranges) = ranges {
            self.rounded("limited", ranges.steps(0)[0]);
        }
        let steps = |branch| ranges.map(|ranges| ranges.steps(branch));
        if let [branch] = &network.branches[..] {
            self.branch(branch, "", steps(0));
        } else {
            let mut outputs = Vec::new();
            for (at, branch) in network.branches.iter().enumerate() {
                let prefix = format!("branch_{}_", at + 1);
                self.branch(branch, &prefix, steps(at));
                outputs.push(format!("{prefix}log_odds"));
            }
            self.node("Sum", &outputs.iter().map(String::as_str).collect::<Vec<_>>(), "log_odds");
        }
        self.node("Sigmoid", &["log_odds"], "score");
        Graph {
            node: self.nodes,
            name: "aimpoint".to_owned(),
            initializer: self.constants,
            input: vec![matrix("input", width)],
            output: vec![matrix("score", 1)],
        }
    }
}

/// A float matrix of `width` columns and any number of rows.
fn matrix(name: &str, width: i64) -> ValueInfo {
    let dim = [Extent::Named("rows".to_owned()), Extent::Value(width)];
    let shape = Shape { dim: dim.into_iter().map(|extent| Dimension { extent: Some(extent) }).collect() };
    let tensor = TensorType { elem_type: FLOAT, shape: Some(shape) };
    ValueInfo { name: name.to_owned(), kind: Some(Type { tensor: Some(tensor) }) }
}
