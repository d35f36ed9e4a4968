//! Attention and encoders against torch.nn, values and gradients; see golden/make.py.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::Result;
use decalign_core::nn::{Mode, Parameters};
use decalign_fusion::{
    Activation, AttentionMask, Encoder, EncoderSettings, LayerSettings, MaskedSequence,
    MultiHeadAttention, Norm,
};

mod common;
use common::distance;

/// The tensors of one case, and variables of its inputs.
struct Case {
    tensors: HashMap<String, Tensor>,
    inputs: HashMap<String, Var>,
}

impl Case {
    fn open(name: &str) -> Self {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/corpus.safetensors"
        );
        let all = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        let own = |(key, x): (String, Tensor)| {
            let key = key.strip_prefix(name)?.strip_prefix('/')?;
            Some((key.to_owned(), x))
        };
        let tensors: HashMap<String, Tensor> = all.into_iter().filter_map(own).collect();
        let input = |(key, x): (&String, &Tensor)| {
            let name = key.strip_prefix("in.")?.to_owned();
            Some((name, Var::from_tensor(x).unwrap()))
        };
        let inputs = tensors.iter().filter_map(input).collect();
        Self { tensors, inputs }
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }

    fn input(&self, name: &str) -> Option<&Tensor> {
        self.inputs.get(name).map(Var::as_tensor)
    }

    /// Gives the parameters the recorded values.
    fn load(&self, parameters: &Parameters) -> Result<()> {
        let named = self
            .tensors
            .iter()
            .filter_map(|(key, x)| Some((key.strip_prefix("p.")?.to_owned(), x.clone())));
        parameters.load(&named.collect::<BTreeMap<_, _>>())
    }

    /// Holds the result and every recorded gradient.
    fn check(&self, name: &str, parameters: &Parameters, out: &Tensor) -> Result<()> {
        assert!(distance(out, self.get("out")) < 1e-12, "{name}");
        let store = (out * self.get("weight"))?.sum_all()?.backward()?;
        let named = parameters.named();
        let mut checked = 0;
        for (key, want) in &self.tensors {
            let Some(key) = key.strip_prefix("g.") else {
                continue;
            };
            let var = match key.strip_prefix("in.") {
                Some(input) => &self.inputs[input],
                None => {
                    let key = key.strip_prefix("p.").unwrap();
                    &named.iter().find(|(name, _)| name == key).unwrap().1
                }
            };
            let got = store.get(var).unwrap();
            assert!(distance(got, want) < 1e-11, "{name}: gradient of {key}");
            checked += 1;
        }
        assert!(checked > named.len());
        Ok(())
    }
}

#[test]
fn attention_is_that_of_torch() -> Result<()> {
    for (name, width, heads, sources) in [
        ("plain", 6, 2, None),
        ("causal", 8, 4, None),
        ("padding", 8, 1, None),
        ("sources", 8, 2, Some((5, 3))),
        ("bias", 8, 2, None),
        ("bias-of-heads", 8, 4, None),
        ("bias-of-keys", 8, 4, None),
    ] {
        let case = Case::open(name);
        let parameters = Parameters::new(1, DType::F64, &Device::Cpu);
        let attention = match sources {
            None => MultiHeadAttention::new(&parameters, width, heads, 0.0)?,
            Some(sources) => {
                MultiHeadAttention::with_sources(&parameters, width, sources, heads, 0.0)?
            }
        };
        case.load(&parameters)?;
        let mask = AttentionMask::default()
            .causal(name == "causal")
            .keys(case.input("keys"))
            .bias(case.input("bias"));
        let [q, k, v] = ["q", "k", "v"].map(|name| case.input(name).unwrap());
        let out = attention.forward(q, k, v, mask, Mode::Inference)?;
        case.check(name, &parameters, &out)?;
        let maps = attention.weights(q, k, mask)?;
        assert!(distance(&maps, case.get("maps")) < 1e-13, "{name}");
    }
    Ok(())
}

#[test]
fn encoders_are_those_of_torch() -> Result<()> {
    for (name, norm, activation) in [
        ("post-relu", Norm::Post, Activation::Relu),
        ("post-gelu", Norm::Post, Activation::Gelu),
        ("pre-relu", Norm::Pre, Activation::Relu),
        ("pre-gelu", Norm::Pre, Activation::Gelu),
    ] {
        let case = Case::open(name);
        let parameters = Parameters::new(1, DType::F64, &Device::Cpu);
        let layer = LayerSettings::new(8, 2)
            .hidden(12)
            .norm(norm)
            .activation(activation);
        let settings = EncoderSettings::new(2, layer).scaled(false);
        let encoder = Encoder::new(&parameters, settings)?;
        case.load(&parameters)?;
        let stream = |name: &str| case.input(name).unwrap().clone();
        let x = MaskedSequence::masked(stream("x"), stream("keys"));
        let out = encoder.self_attend(&x, Default::default(), Mode::Inference)?;
        case.check(name, &parameters, &out)?;
    }
    Ok(())
}
