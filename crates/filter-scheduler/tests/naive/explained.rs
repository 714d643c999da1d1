//! Checks what must be true of every explanation.

use novella_filter_scheduler::{
    FilterKind, FilterScheduler, HostTable, Selected, Verdict, evaluate, inspect,
};
use novella_objects::{FilterOutcome, RequestSpec};
use uuid::Uuid;

/// Inspecting each host must agree with what a placement says about it.
pub fn each_host_as_it_is_decided(
    engine: &mut FilterScheduler,
    table: &mut HostTable,
    spec: &RequestSpec,
    instance: Uuid,
) {
    let Ok(evaluation) = evaluate(engine, table, spec, instance) else { return };
    for (row, decided) in &evaluation.verdicts {
        let told = inspect(engine, table, spec, instance, *row).expect("a request that could be evaluated");
        assert_eq!(told.host, table.host(*row));
        let first = told.filters.iter().find(|filter| filter.verdict != FilterOutcome::Passes);
        // The prefilters come first.
        let before = first.is_some_and(|first| first.filter.parse::<FilterKind>().is_err());
        let no_candidate = told.not_considered.is_some() || before;
        assert_eq!(no_candidate, *decided == Verdict::NotConsidered, "{told:#?} {spec:#?}");
        let first = first.filter(|_| told.not_considered.is_none());
        match decided {
            Verdict::Passed => assert_eq!(first, None),
            Verdict::NotConsidered => {}
            Verdict::Refused(kind) => {
                let first = first.expect("one refuses");
                assert_eq!((first.filter.as_str(), first.verdict), (kind.name(), FilterOutcome::Refuses));
            }
            Verdict::Error(error) => {
                let first = first.expect("one fails");
                assert_eq!(first.filter, error.filter.name());
                assert_eq!(
                    (first.verdict, first.reason.as_ref()),
                    (FilterOutcome::Error, Some(&error.reason))
                );
            }
        }
        assert_eq!(told.passes, *decided == Verdict::Passed);
        for filter in &told.filters {
            assert_eq!(filter.reason.is_none(), filter.verdict == FilterOutcome::Passes, "{filter:?}");
            assert!(filter.reason.as_ref().is_none_or(|reason| !reason.is_empty()), "{filter:?}");
            let short = filter.miss.as_ref().is_none_or(|miss| miss.wanted > miss.available);
            assert!(
                short && (filter.miss.is_none() || filter.verdict == FilterOutcome::Refuses),
                "{filter:?}"
            );
        }
        let place = evaluation.ranking.iter().position(|(ranked, _)| ranked == row);
        if let Some(place) = place {
            let weight = evaluation.ranking[place].1;
            assert_eq!((told.rank, told.weight), (Some(place as u32 + 1), Some(weight)), "{spec:#?}");
            assert_eq!(told.candidates as usize, evaluation.ranking.len());
            let sum = told.weighers.iter().fold(0.0, |sum, w| sum + w.multiplier * w.normalised);
            assert_eq!(sum.to_bits(), weight.to_bits());
        }
    }
}

/// The first host of the ranking is the one that was picked.
pub fn winner_is_the_placed(table: &HostTable, selected: &Selected) {
    let winner = selected.explanation.ranking.first();
    let placed = selected.picks.last();
    assert_eq!(winner.map(|w| w.host.as_str()), placed.map(|pick| table.host(pick.row)));
    assert_eq!(winner.map(|w| w.weight.to_bits()), placed.map(|pick| pick.weight.to_bits()));
}
