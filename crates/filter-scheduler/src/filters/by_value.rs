//! Filters that look at one attribute. They answer once for each distinct value of it, not once for each host.

use crate::filters::network::Network;
use crate::filters::tally::Passes;
use crate::nova::json::Json;
use crate::table::block::refill;
use crate::table::capabilities::CapabilityKind;
use crate::table::host_table::HostTable;

/// A rule about one attribute, with its answers so far.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) rule: ValueRule,
    /// The symbol of the attribute's key. `None` if no host reports it.
    key: Option<u32>,
    /// The answer for each value, by its symbol. `None` if the value was not looked at yet.
    verdicts: Vec<Option<Passes>>,
}

/// What a value of the attribute must be.
#[derive(Debug)]
pub(super) enum ValueRule {
    /// `host_ip` is in the network.
    Inside(Network),
    /// `metrics` has all these names.
    Metrics(Vec<String>),
}

impl Values {
    pub(super) fn compile(rule: ValueRule, attribute: &str, table: &mut HostTable) -> Self {
        let key = table.capabilities.build_column(CapabilityKind::Attribute, attribute);
        Self { rule, key, verdicts: vec![None; table.capabilities.values()] }
    }

    pub(super) fn ask(&mut self, table: &HostTable, row: usize) -> Passes {
        let Some(symbol) = table.capabilities.symbols(self.key).at(row) else {
            return self.rule.ask(&Json::Null);
        };
        let verdict = &mut self.verdicts[symbol as usize];
        verdict.get_or_insert_with(|| self.rule.ask(&table.capabilities.value(symbol).value)).clone()
    }

    /// Whether the attribute is a measured one.
    pub(super) fn reads_measured(&self) -> bool {
        matches!(self.rule, ValueRule::Metrics(_))
    }

    /// Forgets all answers, and makes room for those about `symbols` values.
    pub(super) fn forget(&mut self, symbols: usize) {
        refill(&mut self.verdicts, symbols, None);
    }
}

impl ValueRule {
    fn ask(&self, value: &Json) -> Passes {
        match self {
            Self::Inside(network) => network.holds(value),
            Self::Metrics(names) => Ok(names.iter().all(|name| metric(value, name).is_some())),
        }
    }
}

/// The metric of this name among a host's metrics, which are reported as `[{"name": .., "value": ..}, ..]`. If several
/// have the name, the last one counts.
pub(crate) fn metric<'v>(metrics: &'v Json, name: &str) -> Option<&'v Json> {
    let Json::List(metrics) = metrics else { return None };
    let named = |metric: &&Json| matches!(metric.get("name"), Some(Json::Text(text)) if &**text == name);
    metrics.iter().rfind(named)
}
