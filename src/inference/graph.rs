//! Reads from an ONNX file what ONNX Runtime does not expose: the class labels of its outputs, and its external weight files.
//!
//! Owns the required subset of ONNX's schema, with the official field numbers (onnx.proto). Guarantees: weights are not copied. A
//! `ZipMap` at an output is removed and replaced by its input tensor: the same numbers, without a map per row. Limits: labels are
//! found only at a classifier operator, a `ZipMap`, or the labels that an `ArgMax` selects from.

use prost::{
    Message,
    bytes::Bytes,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field},
};
use std::collections::BTreeMap;

/// ONNX's numbers of the element types used here.
const FLOAT: i32 = 1;
const INT32: i32 = 6;
const INT64: i32 = 7;
const STRING: i32 = 8;
/// `TensorProto.DataLocation.EXTERNAL`
const EXTERNAL: i32 = 1;
/// The field number of the graph in `ModelProto`, and those of nodes and outputs in `GraphProto`.
const GRAPH: u32 = 7;
const NODE: u32 = 1;
const OUTPUT: u32 = 12;
/// The operators with class labels.
const CLASSIFIERS: [&str; 3] = ["LinearClassifier", "TreeEnsembleClassifier", "SVMClassifier"];
/// Maximum number of operators between a classifier and its output: a cast, a normalizer, an identity or two.
const STEPS_MAX: usize = 16;

/// The domains of the operators that ONNX Runtime itself has. Others would be code that comes with the model.
const DOMAINS: [&str; 5] = ["", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "com.microsoft"];

/// `ModelProto`
#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<FunctionProto>,
}

/// `FunctionProto`
#[derive(Clone, PartialEq, Message)]
struct FunctionProto {
    #[prost(message, repeated, tag = "7")]
    node: Vec<NodeProto>,
    #[prost(string, tag = "10")]
    domain: String,
}

/// `GraphProto`
#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "15")]
    sparse_initializer: Vec<SparseTensorProto>,
}

/// `NodeProto`
#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    domain: String,
}

/// `AttributeProto`
#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "5")]
    t: Option<TensorProto>,
    #[prost(message, optional, tag = "6")]
    g: Option<GraphProto>,
    #[prost(int64, repeated, tag = "8")]
    ints: Vec<i64>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    strings: Vec<Bytes>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<GraphProto>,
    #[prost(message, optional, tag = "22")]
    sparse_tensor: Option<SparseTensorProto>,
    #[prost(message, repeated, tag = "23")]
    sparse_tensors: Vec<SparseTensorProto>,
}

/// `TensorProto`
#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(int32, repeated, tag = "5")]
    int32_data: Vec<i32>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    string_data: Vec<Bytes>,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "bytes", tag = "9")]
    raw_data: Bytes,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Entry>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

/// `SparseTensorProto`
#[derive(Clone, PartialEq, Message)]
struct SparseTensorProto {
    #[prost(message, optional, tag = "1")]
    values: Option<TensorProto>,
    #[prost(message, optional, tag = "2")]
    indices: Option<TensorProto>,
}

/// `StringStringEntryProto`
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// `ValueInfoProto`
#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<TypeProto>,
}

/// `TypeProto`, of which only the tensor is used
#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

/// `TypeProto.Tensor`, without its shape
#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
}

/// A tensor whose values are in an external file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct External {
    /// The tensor's name.
    pub(super) tensor: String,
    /// The file, as the model names it.
    pub(super) location: String,
    /// The offset and length of its values in bytes, as written in the model.
    pub(super) offset: Option<String>,
    pub(super) length: Option<String>,
}

/// A `ZipMap` at an output.
#[derive(Clone, Debug)]
struct Zipped {
    /// Its input tensor.
    input: String,
    labels: Vec<String>,
}

/// The structure of a graph.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    proto: GraphProto,
    external: Vec<External>,
    /// An operator of another domain, if there is one.
    foreign: Option<String>,
    /// The removed `ZipMap`s, by output.
    zipped: BTreeMap<String, Zipped>,
}

impl Graph {
    /// Reads the structure of a file; `None` if it is not an ONNX file.
    pub(super) fn read(bytes: &Bytes) -> Option<Self> {
        let model = ModelProto::decode(bytes.clone()).ok()?;
        let graph = model.graph?;
        let mut external = Vec::new();
        collect(&graph, &mut external);
        model.functions.iter().for_each(|function| collect_nodes(&function.node, &mut external));
        let mut zipped = BTreeMap::new();
        for node in graph.node.iter().filter(|node| node.op_type == "ZipMap") {
            if let ([input], [output]) = (&node.input[..], &node.output[..])
                && graph.output.iter().any(|it| it.name == *output)
            {
                zipped
                    .insert(output.clone(), Zipped { input: input.clone(), labels: labels(node).unwrap_or_default() });
            }
        }
        // A function is made of the file's own operators.
        let own: Vec<&str> = model.functions.iter().map(|function| function.domain.as_str()).collect();
        let functions = model.functions.iter().flat_map(|function| &function.node);
        let foreign = graph.node.iter().chain(functions).find_map(|node| foreign(node, &own));
        Some(Self { proto: graph, external, foreign, zipped })
    }

    /// The tensors in external files.
    pub(super) fn external(&self) -> &[External] {
        &self.external
    }

    /// An operator that ONNX Runtime does not have: its domain and name.
    pub(super) fn foreign(&self) -> Option<&str> {
        self.foreign.as_deref()
    }

    /// The file without the `ZipMap`s at its outputs; `None` if there are none.
    pub(super) fn without_zipmaps(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.zipped.is_empty() {
            return None;
        }
        let mut model = Vec::with_capacity(bytes.len());
        for field in Fields(bytes) {
            match field? {
                Field { tag: GRAPH, content: Some(graph), .. } => write(GRAPH, &self.unzipped(graph)?, &mut model),
                field => model.extend_from_slice(field.whole),
            }
        }
        Some(model)
    }

    fn unzipped(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut graph = Vec::with_capacity(bytes.len());
        // The tensor may already be an output.
        let mut outputs: Vec<&str> = self.proto.output.iter().map(|it| it.name.as_str()).collect();
        for field in Fields(bytes) {
            let field = field?;
            match (field.tag, field.content) {
                (NODE, Some(content)) => {
                    let node = NodeProto::decode(content).ok()?;
                    let is_zipped = node.op_type == "ZipMap"
                        && node.output.first().is_some_and(|output| self.zipped.contains_key(output));
                    if !is_zipped {
                        graph.extend_from_slice(field.whole);
                    }
                }
                (OUTPUT, Some(content)) => match self.zipped.get(&ValueInfo::decode(content).ok()?.name) {
                    Some(zipped) if outputs.contains(&zipped.input.as_str()) => {}
                    Some(zipped) => {
                        // The input type of a ZipMap in ONNX's schema.
                        let kind = TypeProto { tensor: Some(TensorType { elem_type: FLOAT }) };
                        let output = ValueInfo { name: zipped.input.clone(), kind: Some(kind) };
                        write(OUTPUT, &output.encode_to_vec(), &mut graph);
                        outputs.push(&zipped.input);
                    }
                    None => graph.extend_from_slice(field.whole),
                },
                _ => graph.extend_from_slice(field.whole),
            }
        }
        Some(graph)
    }

    /// The tensor that an output is read from: the input of its `ZipMap`, or the output itself.
    pub(super) fn tensor_of<'a>(&'a self, output: &'a str) -> &'a str {
        self.zipped.get(output).map_or(output, |zipped| &zipped.input)
    }

    /// The output's name in the file, from the tensor that it is read from.
    pub(super) fn name_of<'a>(&'a self, tensor: &'a str) -> &'a str {
        self.zipped.iter().find(|(_, zipped)| zipped.input == tensor).map_or(tensor, |(name, _)| name)
    }

    /// The labels of a tensor's columns in order, if the graph has them.
    pub(super) fn labels_of(&self, tensor: &str) -> Option<Vec<String>> {
        let zipped = self.zipped.values().find(|zipped| zipped.input == tensor && !zipped.labels.is_empty());
        if let Some(zipped) = zipped {
            return Some(zipped.labels.clone());
        }
        let mut name = tensor;
        for _ in 0..STEPS_MAX {
            let Some(node) = self.proto.node.iter().find(|node| node.output.iter().any(|it| it == name)) else { break };
            match node.op_type.as_str() {
                kind if CLASSIFIERS.contains(&kind) => {
                    return if node.output.get(1).is_some_and(|it| it == name) { labels(node) } else { None };
                }
                // Operators that keep the order of columns.
                "Identity" | "Cast" | "Normalizer" | "Softmax" | "Sigmoid" | "Clip" | "Mul" | "Div" => {
                    name = node.input.first()?;
                }
                _ => break,
            }
        }
        self.chosen_among()
    }

    /// The labels of the graph's only classifier, if it has one.
    pub(super) fn labels(&self) -> Option<Vec<String>> {
        let is_classifier = |node: &&NodeProto| CLASSIFIERS.contains(&node.op_type.as_str());
        let mut all = self.proto.node.iter().filter(is_classifier).filter_map(labels);
        let first = all.next();
        if all.any(|other| first.as_ref() != Some(&other)) { None } else { first.or_else(|| self.chosen_among()) }
    }

    /// Whether an output is the index of a column, computed by an `ArgMax`.
    pub(super) fn is_number_of_column(&self, output: &str) -> bool {
        self.origin(output).is_some_and(|node| node.op_type == "ArgMax")
    }

    /// The operator that computes a tensor, skipping those that keep its values.
    fn origin(&self, tensor: &str) -> Option<&NodeProto> {
        let mut name = tensor;
        for _ in 0..STEPS_MAX {
            let node = self.proto.node.iter().find(|node| node.output.iter().any(|it| it == name))?;
            if !matches!(node.op_type.as_str(), "Identity" | "Cast" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten") {
                return Some(node);
            }
            name = node.input.first()?;
        }
        None
    }

    /// The labels that the graph selects from: the only list that an output or an `ArgMax` takes them from.
    fn chosen_among(&self) -> Option<Vec<String>> {
        let chooses = |node: &&NodeProto| {
            let is_output = |name: &String| {
                self.proto
                    .output
                    .iter()
                    .any(|it| self.origin(&it.name).is_some_and(|origin| origin.output.first() == Some(name)))
            };
            let is_largest = |name: &String| self.origin(name).is_some_and(|origin| origin.op_type == "ArgMax");
            matches!(node.op_type.as_str(), "ArrayFeatureExtractor" | "Gather")
                && (node.input.get(1).is_some_and(is_largest) || node.output.first().is_some_and(is_output))
        };
        let lists = self.proto.node.iter().filter(chooses);
        let mut lists = lists.filter_map(|node| texts(self.constant(node.input.first()?)?));
        let list = lists.next()?;
        if lists.any(|other| other != list) { None } else { Some(list) }
    }

    /// The values of a tensor that the file holds.
    fn constant(&self, name: &str) -> Option<&TensorProto> {
        self.proto.initializer.iter().find(|it| it.name == name).or_else(|| {
            let node = self.origin(name).filter(|node| node.op_type == "Constant")?;
            node.attribute.iter().find(|it| it.name == "value")?.t.as_ref()
        })
    }
}

/// The first operator in a node, and in the graphs of its attributes, that is neither ONNX Runtime's nor the file's own.
fn foreign(node: &NodeProto, own: &[&str]) -> Option<String> {
    let domain = node.domain.as_str();
    if !DOMAINS.contains(&domain) && !own.contains(&domain) {
        return Some(format!("{domain}.{}", node.op_type));
    }
    let graphs = node.attribute.iter().flat_map(|it| it.g.iter().chain(&it.graphs));
    graphs.flat_map(|graph| &graph.node).find_map(|node| foreign(node, own))
}

/// The labels of a classifier or a `ZipMap`.
fn labels(node: &NodeProto) -> Option<Vec<String>> {
    let attribute = node.attribute.iter().find(|it| {
        matches!(it.name.as_str(), "classlabels_ints" | "classlabels_int64s" | "classlabels_strings")
            && !(it.ints.is_empty() && it.strings.is_empty())
    })?;
    let ints = attribute.ints.iter().map(ToString::to_string);
    Some(ints.chain(attribute.strings.iter().map(text)).collect())
}

/// The values of a list of labels.
fn texts(tensor: &TensorProto) -> Option<Vec<String>> {
    let raw = |width: usize| tensor.raw_data.chunks_exact(width);
    let texts: Vec<String> = match tensor.data_type {
        STRING => tensor.string_data.iter().map(text).collect(),
        INT32 if tensor.raw_data.is_empty() => tensor.int32_data.iter().map(ToString::to_string).collect(),
        INT64 if tensor.raw_data.is_empty() => tensor.int64_data.iter().map(ToString::to_string).collect(),
        INT32 => raw(4).map(|it| i32::from_le_bytes(it.try_into().expect("chunks of four")).to_string()).collect(),
        INT64 => raw(8).map(|it| i64::from_le_bytes(it.try_into().expect("chunks of eight")).to_string()).collect(),
        _ => return None,
    };
    (!texts.is_empty()).then_some(texts)
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Collects the external tensors of a graph and of its nested graphs.
fn collect(graph: &GraphProto, to: &mut Vec<External>) {
    graph.initializer.iter().for_each(|tensor| collect_tensor(tensor, to));
    graph.sparse_initializer.iter().for_each(|tensor| collect_sparse(tensor, to));
    collect_nodes(&graph.node, to);
}

fn collect_nodes(nodes: &[NodeProto], to: &mut Vec<External>) {
    for attribute in nodes.iter().flat_map(|node| &node.attribute) {
        attribute.t.iter().chain(&attribute.tensors).for_each(|tensor| collect_tensor(tensor, to));
        attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).for_each(|it| collect_sparse(it, to));
        attribute.g.iter().chain(&attribute.graphs).for_each(|graph| collect(graph, to));
    }
}

fn collect_sparse(tensor: &SparseTensorProto, to: &mut Vec<External>) {
    tensor.values.iter().chain(&tensor.indices).for_each(|tensor| collect_tensor(tensor, to));
}

fn collect_tensor(tensor: &TensorProto, to: &mut Vec<External>) {
    if tensor.data_location != EXTERNAL {
        return;
    }
    let value = |key: &str| tensor.external_data.iter().find(|it| it.key == key).map(|it| it.value.clone());
    to.push(External {
        tensor: tensor.name.clone(),
        location: value("location").unwrap_or_default(),
        offset: value("offset"),
        length: value("length"),
    });
}

/// One field of a message.
struct Field<'a> {
    tag: u32,
    /// The content of a length-delimited field.
    content: Option<&'a [u8]>,
    /// The whole field with its key.
    whole: &'a [u8],
}

/// The fields of a message in order; `None` for invalid bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.take();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self) -> Option<Field<'a>> {
        let start = self.0;
        let mut rest = start;
        let (tag, kind) = decode_key(&mut rest).ok()?;
        let mut content = None;
        if kind == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            content = Some(rest.get(..length)?);
            rest = &rest[length..];
        } else {
            skip_field(kind, tag, &mut rest, DecodeContext::default()).ok()?;
        }
        self.0 = rest;
        Some(Field { tag, content, whole: &start[..start.len() - rest.len()] })
    }
}

/// Appends a length-delimited field.
fn write(tag: u32, content: &[u8], to: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, to);
    encode_varint(content.len() as u64, to);
    to.extend_from_slice(content);
}

#[cfg(test)]
mod tests;
