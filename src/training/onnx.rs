//! Writes the ONNX file of a network.
//!
//! Owns the required subset of ONNX's schema, with the official field numbers (onnx.proto, IR version 8), and the graph. Guarantees:
//! the file takes raw feature values, including missing and infinite ones, and computes the same as [`Network::score`]; the same
//! network and identity give the same bytes. Limits: operator set 13, which runtimes have supported since 2020.

use super::{Network, network::LIMIT};
use crate::inference::{Calibration, metadata};
use prost::Message;
use serde::Serialize;

/// ONNX's number of the element type float32.
const FLOAT: i32 = 1;
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
    let names = json(&features);
    let properties = [
        (metadata::NAME, Some(identity.name.clone())),
        (metadata::VERSION, identity.version.clone()),
        (metadata::FEATURES, Some(names)),
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
        graph: Some(graph(network)),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPERATOR_SET }],
        metadata_props,
    };
    model.encode_to_vec()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names and numbers are written as JSON")
}

fn graph(network: &Network) -> Graph {
    let (width, hidden) = (network.width() as i64, network.hidden() as i64);
    let node = |op_type: &str, input: &[&str], output: &str| Node {
        input: input.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        name: output.to_owned(),
        op_type: op_type.to_owned(),
    };
    let weights = |name: &str, dims: &[i64], values: &[f32]| Tensor {
        dims: dims.to_vec(),
        data_type: FLOAT,
        float_data: values.to_vec(),
        name: name.to_owned(),
    };
    Graph {
        node: vec![
            node("IsNaN", &["input"], "is_nan"),
            node("IsInf", &["input"], "is_infinite"),
            node("Or", &["is_nan", "is_infinite"], "is_missing"),
            node("Where", &["is_missing", "mean", "input"], "clean"),
            node("Sub", &["clean", "mean"], "centred"),
            node("Div", &["centred", "deviation"], "scaled"),
            node("Clip", &["scaled", "least", "most"], "limited"),
            node("Gemm", &["limited", "hidden_weight", "hidden_bias"], "hidden"),
            node("Relu", &["hidden"], "rectified"),
            node("Gemm", &["rectified", "output_weight", "output_bias"], "log_odds"),
            node("Sigmoid", &["log_odds"], "score"),
        ],
        name: "aimpoint".to_owned(),
        initializer: vec![
            weights("mean", &[1, width], &network.mean),
            weights("deviation", &[1, width], &network.deviation),
            weights("least", &[], &[-LIMIT]),
            weights("most", &[], &[LIMIT]),
            weights("hidden_weight", &[width, hidden], &network.hidden_weight),
            weights("hidden_bias", &[hidden], &network.hidden_bias),
            weights("output_weight", &[hidden, 1], &network.output_weight),
            weights("output_bias", &[1], &[network.output_bias]),
        ],
        input: vec![matrix("input", width)],
        output: vec![matrix("score", 1)],
    }
}

/// A float matrix of `width` columns and any number of rows.
fn matrix(name: &str, width: i64) -> ValueInfo {
    let dim = [Extent::Named("rows".to_owned()), Extent::Value(width)];
    let shape = Shape { dim: dim.into_iter().map(|extent| Dimension { extent: Some(extent) }).collect() };
    let tensor = TensorType { elem_type: FLOAT, shape: Some(shape) };
    ValueInfo { name: name.to_owned(), kind: Some(Type { tensor: Some(tensor) }) }
}
