//! Tables, JSON lines and mappings.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use decalign_data::{Dataset, Labels, Modality, OutputFormat, Part, Precision};
use proptest::prelude::*;

const CPU: Device = Device::Cpu;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        files
            .iter()
            .for_each(|(name, text)| folder.write(name, text));
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn open(&self, name: &str) -> Dataset {
        Dataset::open(self.path().join(name)).unwrap()
    }

    fn fails(&self, name: &str) -> String {
        let message = Dataset::open(self.path().join(name))
            .unwrap_err()
            .to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    }
}

fn numbers(data: &Dataset, modality: usize) -> Vec<f32> {
    let features = data.modalities()[modality].features();
    features.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_folder_of_tables_is_put_together_by_identifier() {
    let folder = Folder::new(&[
        (
            "labels.csv",
            "id,label,split,group,text\nb,1.5,train,v1,\"one, two\"\na,-2,test,v2,three\nc,0,dev,v1,\n",
        ),
        ("vision.tsv", "id\tx\ty\na\t1\t2\nc\t3\t4\nb\t5\t6\n"),
        // Rows of a step, out of order; c has none.
        ("text.csv", "step,id,p,q\n2,a,5,6\n1,b,1,2\n1,a,3,4\n"),
        ("notes.md", "not a table"),
    ]);
    let data = folder.open("");
    let names: Vec<&str> = data.modalities().iter().map(Modality::name).collect();
    assert_eq!(names, ["text", "vision"]);
    assert_eq!(data.ids().unwrap(), ["b", "a", "c"]);
    assert_eq!(data.texts().unwrap(), ["one, two", "three", ""]);
    assert_eq!(data.groups().unwrap(), ["v1", "v2", "v1"]);
    assert_eq!(data.labels(), Some(&Labels::Scores(vec![1.5, -2.0, 0.0])));
    assert_eq!(
        numbers(&data, 0),
        [1., 2., 0., 0., 3., 4., 5., 6., 0., 0., 0., 0.]
    );
    assert_eq!(data.modalities()[0].lengths(), Some([1, 2, 0].as_slice()));
    assert_eq!(numbers(&data, 1), [5., 6., 1., 2., 3., 4.]);
    assert_eq!(data.modalities()[1].lengths(), None);
    for (part, row) in [(Part::Train, 0), (Part::Test, 1), (Part::Valid, 2)] {
        assert_eq!(data.part(None, part).unwrap(), [row]);
    }
}

#[test]
fn tables_without_identifiers_go_row_by_row() {
    let folder = Folder::new(&[
        ("a.csv", "1,2\n3,\n"),
        ("b.tsv", "first\n7\n8\n"),
        ("samples.tsv", "label\nno\nyes\n"),
    ]);
    let data = folder.open("");
    let a = numbers(&data, 0);
    assert_eq!(a[..3], [1., 2., 3.]);
    assert!(a[3].is_nan());
    assert_eq!(numbers(&data, 1), [7., 8.]);
    let names = ["no", "yes"].map(str::to_owned).to_vec();
    let expected = Labels::Classes {
        values: vec![0, 1],
        names,
    };
    assert_eq!(data.labels(), Some(&expected));
    assert_eq!(folder.open("b.tsv").modalities()[0].name(), "b");
}

#[test]
fn bad_tables_name_the_line() {
    let cases = [
        ("1,2\n3\n", "line 2: 1 features, the rows before have 2"),
        ("1,2\n3,x\n", "line 2: \"x\" in column 2 is no number"),
        (
            "id,step,v\na,1.5,3\n",
            "line 2: step \"1.5\" is no whole number",
        ),
        ("id,v\na,1\nb,2\na,3\n", "\"a\" is there twice"),
        ("", "holds no number"),
        ("id\na\n", "holds no number"),
    ];
    for (text, expected) in cases {
        let folder = Folder::new(&[("a.csv", text)]);
        let message = folder.fails("a.csv");
        assert!(
            message.contains("a.csv") && message.contains(expected),
            "{message}"
        );
    }
    let folder = Folder::new(&[("a.csv", "id,v\nz,1\n"), ("labels.csv", "id,label\na,1\n")]);
    assert!(folder.fails("").contains("a: row 1: no sample \"z\""));
    let folder = Folder::new(&[("a.csv", "1\n2\n"), ("labels.csv", "label\n1\n")]);
    assert!(
        folder.fails("").contains("label: 1 entries for 2 samples")
            || folder.fails("").contains("labels: 1 entries")
    );
    let folder = Folder::new(&[("a.csv", "1\n"), ("labels.csv", "score\n1\n")]);
    assert!(folder.fails("").contains("none of the columns id, label"));
    let folder = Folder::new(&[("a.csv", "1\n"), ("labels.csv", "split\nlater\n")]);
    assert!(folder.fails("").contains("split: \"later\" of sample 0"));
    assert!(
        Folder::new(&[])
            .fails("")
            .contains("a folder without tables")
    );
    // One sequence of many steps among many of one: padding is bounded.
    let mut long = "id,v\n".to_owned();
    (0..30_000).for_each(|_| long.push_str("a,1\n"));
    (0..30_000).for_each(|i| long.push_str(&format!("b{i},1\n")));
    assert!(
        Folder::new(&[("a.csv", &long)])
            .fails("a.csv")
            .contains("with padding")
    );
}

#[test]
fn json_lines_hold_features_or_lie_beside_them() {
    let folder = Folder::new(&[(
        "own.jsonl",
        "{\"id\": \"x\", \"text\": \"é\", \"label\": 2, \"audio\": [1, null], \"text_x\": [[1], [2]]}\n\n\
         {\"id\": \"y\", \"text\": \"b\", \"label\": 0, \"audio\": [3, 4.5]}\n",
    )]);
    let data = folder.open("own.jsonl");
    let names: Vec<&str> = data.modalities().iter().map(Modality::name).collect();
    assert_eq!(names, ["text_x", "audio"]);
    assert_eq!(data.modalities()[0].lengths(), Some([2, 0].as_slice()));
    assert_eq!(numbers(&data, 0), [1., 2., 0., 0.]);
    assert_eq!(data.labels().unwrap().names().len(), 3);
    // Transcripts alone are a data set without modalities, which saves and opens again.
    let lines = "{\"video\": \"v\", \"text\": \"one\", \"label\": 0.5}\n{\"video\": \"v\", \"text\": \"two\", \"label\": -1}\n";
    folder.write("words.jsonl", lines);
    let data = folder.open("words.jsonl");
    assert_eq!((data.len(), data.modalities().len()), (2, 0));
    assert_eq!(data.groups().unwrap(), ["v", "v"]);
    data.save(folder.path().join("saved.safetensors")).unwrap();
    assert_eq!(
        folder.open("saved.safetensors").texts().unwrap(),
        ["one", "two"]
    );
    // Beside a file of features of the same name.
    let x = Tensor::ones((2, 3), DType::F32, &CPU).unwrap();
    let features = Dataset::new("f", vec![Modality::new("audio", &x, None).unwrap()]).unwrap();
    features
        .save(folder.path().join("words.safetensors"))
        .unwrap();
    let data = folder.open("words.jsonl");
    assert_eq!((data.len(), data.modalities()[0].width()), (2, 3));
    assert_eq!(data.labels(), Some(&Labels::Scores(vec![0.5, -1.0])));
    folder.write("words.jsonl", "{\"text\": \"one\"}\n");
    assert!(folder.fails("words.jsonl").contains("1 lines, but"));
}

#[test]
fn bad_lines_name_the_line() {
    let cases = [
        ("{\"a\": [1]}\nnot json\n", "line 2: not an object"),
        ("[1]\n", "line 1: not an object"),
        (
            "{\"a\": [1]}\n{\"a\": [1, 2]}\n",
            "line 2: a: 2 features after 1",
        ),
        (
            "{\"a\": [1, \"x\"]}\n",
            "line 1: a: a value that is no number",
        ),
        ("{\"a\": []}\n", "line 1: a: 0 features"),
        (
            "{\"what\": 3}\n",
            "line 1: what: 3 is neither features nor known",
        ),
        ("{\"id\": \"x\"}\n", "neither features nor texts"),
        ("", "holds no sample"),
        (
            "{\"a\": [1], \"label\": 1}\n{\"a\": [2]}\n",
            "label: missing for sample 1",
        ),
        (
            "{\"a\": [1], \"label\": 1}\n{\"a\": [2], \"label\": \"x\"}\n",
            "among numbers",
        ),
    ];
    for (text, expected) in cases {
        let message = Folder::new(&[("a.jsonl", text)]).fails("a.jsonl");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_mapping_gives_names_of_other_files_a_meaning() {
    let folder = Folder::new(&[(
        "words.jsonl",
        "{\"id\": \"p\", \"text\": \"a\", \"label\": 1}\n{\"id\": \"q\", \"text\": \"b\", \"label\": 3}\n",
    )]);
    let write = |name: &str, tensors: &[(&str, Tensor)]| {
        let map: std::collections::HashMap<&str, Tensor> = tensors.iter().cloned().collect();
        candle_core::safetensors::save(&map, folder.path().join(name)).unwrap();
    };
    let x = Tensor::arange(0f32, 12.0, &CPU).unwrap();
    write(
        "one.safetensors",
        &[
            ("bert/last", x.reshape((2, 3, 2)).unwrap()),
            ("bert/len", Tensor::new(&[3i64, 1], &CPU).unwrap()),
            ("fold", Tensor::new(&[0i64, 2], &CPU).unwrap()),
        ],
    );
    write(
        "two.safetensors",
        &[("covarep", x.reshape((2, 6)).unwrap())],
    );
    folder.write("map.toml", "file = \"one.safetensors\"\nsplit = \"fold\"\nlines = \"words.jsonl\"\n[splits]\nother = \"fold\"\n[modalities]\naudio = { file = \"two.safetensors\", name = \"covarep\" }\ntext = { name = \"bert/last\", lengths = \"bert/len\" }\n");
    let data = folder.open("map.toml");
    let names: Vec<&str> = data.modalities().iter().map(Modality::name).collect();
    assert_eq!(names, ["text", "audio"]);
    assert_eq!(data.modalities()[0].lengths(), Some([3, 1].as_slice()));
    assert_eq!(data.part(Some("other"), Part::Test).unwrap(), [1]);
    assert_eq!(data.ids().unwrap(), ["p", "q"]);
    assert_eq!(data.labels().unwrap().names().len(), 4);
    let bad = [
        (
            "[modalities]\ntext = \"bert/last\"\n",
            "bert/last: in which file?",
        ),
        (
            "file = \"one.safetensors\"\n[modalities]\ntext = \"no\"\n",
            "one.safetensors has no such array; there are bert/last",
        ),
        (
            "file = \"one.safetensors\"\n[modalities]\nlabels = \"fold\"\n",
            "labels: this name is reserved",
        ),
        (
            "file = \"words.jsonl\"\n[modalities]\ntext = \"no\"\n",
            "expected safetensors, npz or npy",
        ),
        ("file = 3\n", "line 1"),
        ("nonsense = 3\n[modalities]\n", "nonsense"),
        ("file = \"none.npz\"\n[modalities]\na = \"a\"\n", "none.npz"),
    ];
    for (text, expected) in bad {
        folder.write("bad.toml", text);
        let message = folder.fails("bad.toml");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn what_is_of_no_format_says_what_is() {
    let folder = Folder::new(&[("x.bin", "hello there, this is nothing"), ("empty", "")]);
    for name in ["x.bin", "empty"] {
        assert!(folder.fails(name).contains("unknown format"));
    }
    assert!(folder.fails("absent").contains("absent: "));
}

proptest! {
    #[test]
    fn numbers_come_back_from_tables(
        values in proptest::collection::vec(-1e6f32..1e6, 1..40), width in 1usize..4, tabs in any::<bool>(),
    ) {
        let rows = values.len() / width;
        prop_assume!(rows > 0);
        let (separator, name) = if tabs { ("\t", "a.tsv") } else { (",", "a.csv") };
        let line = |row: &[f32]| row.iter().map(f32::to_string).collect::<Vec<_>>().join(separator) + "\n";
        let text: String = values.chunks_exact(width).map(line).collect();
        let folder = Folder::new(&[(name, &text)]);
        prop_assert_eq!(numbers(&folder.open(name), 0), &values[..rows * width]);
    }

    #[test]
    fn any_text_is_an_error_or_a_data_set(text in "\\PC{0,80}", kind in 0usize..4) {
        let name = ["a.csv", "a.tsv", "a.jsonl", "a.toml"][kind];
        let folder = Folder::new(&[(name, &text)]);
        if let Ok(data) = Dataset::open(folder.path().join(name)) {
            let out = folder.path().join("out.npz");
            data.write(&out, OutputFormat::Npz, Precision::F32, &mut |_, _| {}).unwrap();
        }
    }
}
