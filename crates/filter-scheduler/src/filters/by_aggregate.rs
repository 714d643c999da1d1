//! Filters that look at the metadata of a host's aggregates. They answer once for each distinct set of aggregates.

use std::collections::BTreeMap;

use crate::filters::tally::Passes;
use crate::nova::image_properties::ImageProperties;
use crate::nova::operators::Requirement;
use crate::settings::options::Policy;
use crate::table::aggregates::Facts;

/// AggregateInstanceExtraSpecsFilter: for each extra spec, the metadata of that key have a value that satisfies it.
/// Where an error and a match both occur among a key's values, Nova's answer depends on the order of a Python set. Here
/// the match counts.
pub(super) fn extra_specs(facts: &Facts, specs: &BTreeMap<String, String>) -> Passes {
    for (key, text) in specs {
        let key = match key.split_once(':') {
            None => key,
            Some(("aggregate_instance_extra_specs", key)) => key,
            Some(_) => continue,
        };
        let Some(values) = facts.split(key) else { return Ok(false) };
        let requirement = Requirement::parse(text);
        let mut error = None;
        let matches = values.iter().any(|value| match requirement.matches(value) {
            Ok(matches) => matches,
            Err(wrong) => {
                error.get_or_insert(wrong);
                false
            }
        });
        match error {
            _ if matches => {}
            Some(error) => return Err(format!("extra spec {text:?}: {error}")),
            None => return Ok(false),
        }
    }
    Ok(true)
}

/// AggregateImagePropertiesIsolation: the image's properties have one of the values that the metadata give them.
pub(super) fn image_properties(facts: &Facts, image: &ImageProperties, policy: &Policy) -> Passes {
    let separator = &policy.aggregate_image_properties_isolation_separator;
    let prefix = policy.aggregate_image_properties_isolation_namespace.as_ref();
    let prefix = prefix.map_or(String::new(), |namespace| format!("{namespace}{separator}"));
    Ok(facts.all().filter(|(key, _)| key.starts_with(&prefix)).all(|(key, values)| {
        let value = image.get(key).filter(|value| value.truthy());
        value.is_none_or(|value| values.contains(value.text().as_str()))
    }))
}

/// AggregateMultiTenancyIsolation: the metadata `filter_tenant_id*` name this project, or there are none.
pub(super) fn tenancy(facts: &Facts, project: Option<&str>) -> Passes {
    let mut isolated = false;
    for (_, tenants) in facts.all().filter(|(key, _)| key.starts_with("filter_tenant_id")) {
        if project.is_some_and(|project| tenants.contains(project)) {
            return Ok(true);
        }
        isolated = true;
    }
    Ok(!isolated)
}

/// AggregateTypeAffinityFilter: the metadata `instance_type` name this flavor, or there are none.
pub(super) fn flavor(facts: &Facts, name: &str) -> Passes {
    Ok(facts.split("instance_type").is_none_or(|names| names.contains(name)))
}
