//! The model against the numbers of the PyTorch release.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use candle_core::DType;
use decalign::verify::{VerifySettings, verify};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

const FIXTURES: [&str; 9] = [
    "iemocap-classes",
    "mosei-conv5",
    "mosi-dim-equal",
    "mosi-few-samples",
    "mosi-mahalanobis-sum",
    "mosi-masked-selfattn",
    "mosi-small",
    "mosi-text-audio",
    "sims-unaligned",
];

#[test]
fn every_recorded_tensor_holds_in_f64_and_f32() {
    for name in FIXTURES {
        for dtype in [DType::F64, DType::F32] {
            let settings = VerifySettings::default().dtype(dtype);
            let report = verify(fixture(name), &settings).unwrap();
            assert!(
                report.holds,
                "{name} {}: {:?}",
                report.dtype, report.tensors[0]
            );
            // Outputs, losses, gradients and steps are all there.
            assert!(report.tensors.len() > 100, "{name}");
            for prefix in ["output_logit", "total_loss", "grad.", "trajectory.param."] {
                assert!(
                    report.tensors.iter().any(|t| t.name.starts_with(prefix)),
                    "{name} {prefix}"
                );
            }
            // Only biases of keys are rounding, and no more than a third of their tensor.
            for tensor in report.tensors.iter().filter(|t| t.rounding_elements > 0) {
                assert!(
                    tensor.name.ends_with("self_attn.in_proj_bias"),
                    "{}",
                    tensor.name
                );
                assert!(tensor.rounding_elements <= 16, "{}", tensor.name);
            }
        }
    }
}

#[test]
fn a_text_encoder_holds_with_its_gradients() {
    for dtype in [DType::F64, DType::F32] {
        let settings = VerifySettings::default().dtype(dtype);
        let report = verify(fixture("sims-bert"), &settings).unwrap();
        assert!(report.holds, "{}: {:?}", report.dtype, report.tensors[0]);
        let of = |prefix: &str| {
            let named = report.tensors.iter().filter(|t| t.name.starts_with(prefix));
            named.count()
        };
        assert_eq!((of("text_features"), of("grad.text_model.")), (1, 37));
    }
}

#[test]
fn weights_of_pytorch_files_are_the_same() {
    let folder = fixture("mosi-small");
    let settings = VerifySettings::default().weights(folder.join("weights.pth"));
    let report = verify(&folder, &settings).unwrap();
    assert!(report.holds && report.dtype == "f64");
}

#[test]
fn a_difference_is_found() {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("mosi-small")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let expected = copy.path().join("expected.safetensors");
    let cpu = candle_core::Device::Cpu;
    for changed in [
        "grad.encoder_com.weight",
        "trajectory.param.out_layer.bias",
        "z_a",
    ] {
        let mut tensors = candle_core::safetensors::load(&expected, &cpu).unwrap();
        let tensor = &tensors[changed];
        let scale = tensor
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar::<f64>()
            .unwrap();
        let tensor = (tensor + 3e-8 * scale.max(1e-3)).unwrap();
        tensors.insert(changed.to_owned(), tensor);
        candle_core::safetensors::save(&tensors, &expected).unwrap();
        let report = verify(copy.path(), &VerifySettings::default()).unwrap();
        assert!(!report.holds);
        assert!(
            report.tensors.iter().any(|t| t.name == changed && !t.holds),
            "{changed}"
        );
    }
}

#[test]
fn bad_folders_are_errors_that_name_the_file() {
    let settings = VerifySettings::default();
    let error = verify("no/such/folder", &settings).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
    let copy = tempfile::tempdir().unwrap();
    let source = fixture("mosi-small");
    let take = |name: &str| std::fs::copy(source.join(name), copy.path().join(name)).unwrap();
    take("config.json");
    let error = verify(copy.path(), &settings).unwrap_err().to_string();
    assert!(error.contains("weights.safetensors"), "{error}");
    take("weights.pth");
    let error = verify(copy.path(), &settings).unwrap_err().to_string();
    assert!(error.contains("batch.safetensors"), "{error}");
    take("batch.safetensors");
    std::fs::write(copy.path().join("expected.safetensors"), b"rubbish").unwrap();
    let error = verify(copy.path(), &settings).unwrap_err().to_string();
    assert!(
        error.contains("expected.safetensors: not a safetensors file"),
        "{error}"
    );
    std::fs::write(copy.path().join("weights.safetensors"), b"rubbish").unwrap();
    let error = verify(copy.path(), &settings).unwrap_err().to_string();
    assert!(
        error.contains("weights.safetensors: not a safetensors file"),
        "{error}"
    );
    std::fs::write(copy.path().join("config.json"), "{\"use_bert\": true}").unwrap();
    let error = verify(copy.path(), &settings).unwrap_err().to_string();
    assert!(
        error.contains("config.json: configuration key use_bert"),
        "{error}"
    );
}
