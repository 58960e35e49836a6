//! Every shader against its host twin: what one declares, the other relies on.

use std::collections::BTreeSet;

use kullback::internal::{
    POLICY_BINDING, SHARED_CONSTANTS, Spec, Variant, kernels, overrides, record_fields,
};
use kullback::plan::QUAD;
use naga::{AddressSpace, Expression, Literal, Module, StorageAccess, TypeInner};

fn parse(spec: &Spec) -> Module {
    naga::front::wgsl::parse_str(&spec.source)
        .unwrap_or_else(|error| panic!("{}", error.emit_to_string(&spec.source)))
}

/// The fields of a struct with their offsets, and its size.
fn layout(module: &Module, ty: naga::Handle<naga::Type>) -> (Vec<(String, usize)>, usize) {
    let TypeInner::Struct { members, span } = &module.types[ty].inner else {
        panic!("{:?} is no struct", module.types[ty]);
    };
    let field =
        |member: &naga::StructMember| (member.name.clone().unwrap(), member.offset as usize);
    (members.iter().map(field).collect(), *span as usize)
}

fn owned(fields: &[(&str, usize)]) -> Vec<(String, usize)> {
    fields.iter().map(|&(name, offset)| (name.to_owned(), offset)).collect()
}

#[test]
fn each_file_has_one_entry_point_of_its_own_name() {
    let mut names = BTreeSet::new();
    for spec in &kernels() {
        let module = parse(spec);
        let entries: Vec<_> = module.entry_points.iter().map(|entry| &*entry.name).collect();
        assert_eq!(entries, [spec.name]);
        names.insert(format!("{}.wgsl", spec.name));
    }
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let files: BTreeSet<_> = files
        .filter(|path| path.is_file())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(files, names, "every shader belongs to a kernel");
}

#[test]
fn bindings_are_those_that_the_host_binds() {
    for spec in &kernels() {
        let module = parse(spec);
        let mut bound: Vec<_> = module
            .global_variables
            .iter()
            .filter_map(|(_, variable)| {
                let binding = variable.binding.as_ref()?;
                assert_eq!(binding.group, 0, "{}", spec.name);
                Some((binding.binding, variable.name.clone().unwrap(), variable.space))
            })
            .collect();
        bound.sort_by_key(|(binding, ..)| *binding);
        let mut want = vec![(0, "params".to_owned(), AddressSpace::Uniform)];
        for &(name, binding, writes) in &spec.buffers {
            let mut access = StorageAccess::LOAD;
            access.set(StorageAccess::STORE, writes);
            want.push((binding, name.to_owned(), AddressSpace::Storage { access }));
        }
        if spec.policy.is_some() {
            want.push((POLICY_BINDING, "policy".to_owned(), AddressSpace::Uniform));
        }
        want.sort_by_key(|(binding, ..)| *binding);
        assert_eq!(bound, want, "{}", spec.name);
    }
}

#[test]
fn structs_are_laid_out_as_the_host_lays_them_out() {
    for spec in &kernels() {
        let module = parse(spec);
        let record =
            |variant: Variant| (owned(&record_fields(variant)), variant.layout().record_bytes);
        let both =
            [("Params", (owned(spec.params.1), spec.params.0)), ("Record", record(spec.variant))];
        let heads = spec.heads.map(|heads| ("Head", record(heads)));
        let lines = spec.lines.map(|(size, fields)| ("Line", (owned(fields), size)));
        let policy = spec.policy.map(|(size, fields)| ("Policy", (owned(fields), size)));
        for (name, want) in both.into_iter().chain(heads).chain(lines).chain(policy) {
            let find = |(_, ty): &(_, &naga::Type)| ty.name.as_deref() == Some(name);
            let (ty, _) = module.types.iter().find(find).unwrap();
            assert_eq!(layout(&module, ty), want, "{} {name}", spec.name);
        }
    }
}

/// Whether a buffer holds four words at a time, whatever the bins are.
fn is_of_quads(variable: &naga::GlobalVariable) -> bool {
    ["ln_table", "p_gradient", "q_gradient"].contains(&variable.name.as_deref().unwrap_or_default())
}

#[test]
fn buffers_hold_records_or_vector_loads() {
    for spec in &kernels() {
        let module = parse(spec);
        for (_, variable) in module.global_variables.iter() {
            let AddressSpace::Storage { .. } = variable.space else { continue };
            let TypeInner::Array { base, stride, .. } = module.types[variable.ty].inner else {
                panic!("{:?} is no array", variable.name);
            };
            match &module.types[base].inner {
                TypeInner::Struct { .. } if variable.name.as_deref() == Some("lines") => {
                    assert_eq!(Some(stride as usize), spec.lines.map(|(bytes, _)| bytes));
                }
                TypeInner::Struct { .. } => {
                    let heads = spec.heads.filter(|_| variable.name.as_deref() == Some("heads"));
                    let of = heads.unwrap_or(spec.variant);
                    assert_eq!(stride as usize, of.layout().record_bytes);
                }
                TypeInner::Vector { .. } if is_of_quads(variable) => assert_eq!(stride, 16),
                // The bits of values, statuses, and rows without padding.
                TypeInner::Scalar { .. } => assert_eq!(stride, 4),
                TypeInner::Vector { .. } if spec.variant.is_f64() => assert_eq!(stride, 16),
                TypeInner::Vector { .. } => {
                    assert_eq!(stride as usize, QUAD * spec.variant.layout().bin_bytes);
                }
                other => panic!("{:?} holds {other:?}", variable.name),
            }
        }
    }
}

#[test]
fn the_overrides_are_those_that_the_host_sets() {
    for spec in &kernels() {
        let module = parse(spec);
        let declared: Vec<_> =
            module.overrides.iter().map(|(_, constant)| constant.name.clone().unwrap()).collect();
        let own = spec.own.iter().map(|&(name, _)| name);
        let all: Vec<_> = overrides().into_iter().chain(own).collect();
        assert_eq!(declared, all, "{}", spec.name);
        assert!(module.entry_points[0].workgroup_size_overrides.is_some(), "{}", spec.name);
    }
}

/// What in f64 is an upper word.
const OF_WORDS: &[&str] = &["INFINITE", "ONE", "HUGE"];

#[test]
fn shared_constants_have_the_same_values() {
    let mut found = BTreeSet::new();
    for spec in &kernels() {
        let module = parse(spec);
        for (_, constant) in module.constants.iter() {
            let name = constant.name.as_deref().unwrap_or_default();
            let Some(&(name, want)) = SHARED_CONSTANTS.iter().find(|(known, _)| *known == name)
            else {
                continue;
            };
            let bits = match module.global_expressions[constant.init] {
                // In f64 these are other numbers, which the golden rows hold to account.
                Expression::Literal(Literal::F64(_)) => continue,
                _ if spec.variant.is_f64() && OF_WORDS.contains(&name) => continue,
                Expression::Literal(Literal::U32(value)) => value,
                Expression::Literal(Literal::F32(value)) => value.to_bits(),
                ref other => panic!("{name} is {other:?}"),
            };
            assert_eq!(bits, want, "{name} in {}", spec.name);
            found.insert(name);
        }
    }
    assert_eq!(found.len(), SHARED_CONSTANTS.len(), "only {found:?}");
}

#[test]
fn shaders_pass_validation_without_any_extension_but_f64() {
    for spec in &kernels() {
        let needs = match spec.variant.is_f64() {
            true => naga::valid::Capabilities::FLOAT64,
            false => naga::valid::Capabilities::empty(),
        };
        let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), needs);
        if let Err(error) = validator.validate(&parse(spec)) {
            panic!("{}: {error:?}", spec.name);
        }
    }
}
