use super::*;

fn node(op_type: &str, input: &[&str], output: &str) -> NodeProto {
    let input = input.iter().map(|it| (*it).to_owned()).collect();
    NodeProto { op_type: op_type.to_owned(), input, output: vec![output.to_owned()], ..NodeProto::default() }
}

/// A network with probabilities, and a label computed by these nodes from the index of the largest column.
fn labelled(nodes: &[NodeProto]) -> Graph {
    let list =
        TensorProto { name: "list".to_owned(), data_type: INT64, int64_data: vec![1, 0], ..TensorProto::default() };
    let output = ["probabilities", "label"].map(|name| ValueInfo { name: name.to_owned(), kind: None });
    let proto = GraphProto {
        node: [&[node("Softmax", &["x"], "probabilities")], nodes].concat(),
        initializer: vec![list],
        output: output.to_vec(),
        sparse_initializer: Vec::new(),
    };
    let model = ModelProto { graph: Some(proto), functions: Vec::new() };
    Graph::read(&model.encode_to_vec().into()).unwrap()
}

#[test]
fn an_operator_of_another_domain_is_found_wherever_it_is() {
    let of = |domain: &str| NodeProto { domain: domain.to_owned(), ..node("Run", &["x"], "score") };
    let within = |inner: NodeProto| {
        let graph = GraphProto { node: vec![inner], ..GraphProto::default() };
        let attribute = AttributeProto { g: Some(graph), ..AttributeProto::default() };
        NodeProto { attribute: vec![attribute], ..node("If", &["x"], "score") }
    };
    let model = |node: NodeProto, functions| {
        let graph = Some(GraphProto { node: vec![node], ..GraphProto::default() });
        Graph::read(&ModelProto { graph, functions }.encode_to_vec().into()).unwrap()
    };
    for domain in DOMAINS {
        assert_eq!(model(within(of(domain)), Vec::new()).foreign(), None, "{domain}");
    }
    for found in [of("evil"), within(of("evil"))] {
        assert_eq!(model(found, Vec::new()).foreign(), Some("evil.Run"));
    }
    let function = |node| FunctionProto { node: vec![node], domain: "own".to_owned() };
    assert_eq!(model(of("own"), vec![function(node("Exp", &["x"], "y"))]).foreign(), None);
    assert_eq!(model(of("own"), vec![function(of("evil"))]).foreign(), Some("evil.Run"));
}

/// Labels selected by `Gather` used to be taken for column indexes, so the score was that of the other class.
#[test]
fn labels_are_followed_from_the_output_to_their_list_or_count_as_unknown() {
    let largest = || node("ArgMax", &["probabilities"], "largest");
    let reversed = Some(vec!["1".to_owned(), "0".to_owned()]);
    for (nodes, labels, is_number) in [
        (vec![largest(), node("ArrayFeatureExtractor", &["list", "largest"], "label")], reversed.clone(), false),
        (vec![largest(), node("Gather", &["list", "largest"], "label")], reversed.clone(), false),
        (
            vec![
                largest(),
                node("Squeeze", &["largest"], "flat"),
                node("Gather", &["list", "flat"], "chosen"),
                node("Cast", &["chosen"], "label"),
            ],
            reversed.clone(),
            false,
        ),
        // Selected by a threshold.
        (
            vec![node("Greater", &["probabilities", "half"], "is_over"), node("Gather", &["list", "is_over"], "label")],
            reversed,
            false,
        ),
        (vec![largest(), node("Cast", &["largest"], "label")], None, true),
        (vec![largest(), node("Sub", &["one", "largest"], "label")], None, false),
        (vec![node("ArgMin", &["probabilities"], "label")], None, false),
    ] {
        let graph = labelled(&nodes);
        assert_eq!(graph.labels_of("probabilities"), labels, "{nodes:?}");
        assert_eq!(graph.is_number_of_column("label"), is_number, "{nodes:?}");
    }
}
