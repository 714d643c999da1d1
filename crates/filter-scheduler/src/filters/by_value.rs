//! Rules that are asked once of every distinct value of an attribute, not once of every host.

use crate::filters::network::Network;
use crate::nova::json::Json;
use crate::table::block::refill;
use crate::table::capabilities::CapabilityKind;
use crate::table::host_table::HostTable;

/// A rule asked once of every distinct value of an attribute.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) rule: Rule,
    key: Option<u32>,
    /// By symbol, once known.
    verdicts: Vec<Option<Result<bool, String>>>,
}

#[derive(Debug)]
pub(super) enum Rule {
    /// `host_ip` is in the network.
    Inside(Network),
    /// `metrics` has all these names.
    Metrics(Vec<String>),
}

impl Values {
    pub(super) fn compile(rule: Rule, attribute: &str, table: &mut HostTable) -> Self {
        let key = table.capabilities.key(CapabilityKind::Attribute, attribute);
        if let Some(key) = key {
            table.capabilities.build_column(key);
        }
        Self { rule, key, verdicts: vec![None; table.capabilities.values()] }
    }

    pub(super) fn ask(&mut self, table: &HostTable, row: usize) -> Result<bool, String> {
        let Some(symbol) = table.capabilities.symbols(self.key).at(row) else {
            return self.rule.ask(&Json::Null);
        };
        let verdict = &mut self.verdicts[symbol as usize];
        verdict.get_or_insert_with(|| self.rule.ask(&table.capabilities.value(symbol).value)).clone()
    }
}

impl Values {
    /// Whether the attribute is a measured one.
    pub(super) fn reads_measured(&self) -> bool {
        matches!(self.rule, Rule::Metrics(_))
    }

    /// Forgets all verdicts; there are so many symbols now.
    pub(super) fn forget(&mut self, symbols: usize) {
        refill(&mut self.verdicts, symbols, None);
    }
}

impl Rule {
    fn ask(&self, value: &Json) -> Result<bool, String> {
        match self {
            Self::Inside(network) => network.holds(value),
            Self::Metrics(names) => Ok(names.iter().all(|name| metric(value, name).is_some())),
        }
    }
}

/// One of a host's metrics, `[{"name": .., "value": ..}, ..]`, as reported.
pub(crate) fn metric<'v>(metrics: &'v Json, name: &str) -> Option<&'v Json> {
    let Json::List(metrics) = metrics else { return None };
    let named = |metric: &&Json| matches!(metric.get("name"), Some(Json::Text(text)) if &**text == name);
    metrics.iter().rfind(named)
}
