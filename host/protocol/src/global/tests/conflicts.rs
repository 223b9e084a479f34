//! Halves of a cluster that meet.

use super::*;

/// Two nodes, 0 and 1, that each have a holder when they meet; what came of it.
fn meet(first: Resolver, second: Resolver) -> (Nodes, Vec<(usize, GlobalOutput)>) {
    let mut nodes = Nodes::new(3);
    nodes.split(&[0], &[1, 2]);
    nodes.rounds(2);
    nodes.claim(0, 1, 1, name_wish(false, first));
    nodes.claim(1, 2, 1, name_wish(false, second));
    assert_eq!(answers(&nodes.rounds(6)).len(), 2);
    nodes.heal(&[0], &[1, 2]);
    let outputs = nodes.rounds(4);
    (nodes, outputs)
}

fn conflicts(outputs: &[(usize, GlobalOutput)]) -> Vec<(Pid, Pid, bool)> {
    let conflicts = outputs.iter().filter_map(|(_, output)| match output {
        GlobalOutput::NameConflict(conflict) => {
            Some((conflict.loser, conflict.holder, conflict.exit))
        }
        _ => None,
    });
    conflicts.collect()
}

fn questions(outputs: &[(usize, GlobalOutput)]) -> Vec<(usize, QuestionId)> {
    let questions = outputs.iter().filter_map(|(node, output)| match output {
        GlobalOutput::Resolve { question, .. } => Some((*node, *question)),
        _ => None,
    });
    questions.collect()
}

fn first() -> Pid {
    Nodes::pid(0, 1)
}

fn second() -> Pid {
    Nodes::pid(1, 1)
}

#[test]
fn by_default_the_smaller_node_stays_and_the_other_is_told() {
    let (nodes, outputs) = meet(Resolver::NotifyLoser, Resolver::NotifyAll);
    assert_eq!(conflicts(&outputs), [(second(), first(), false)]);
    assert_eq!(nodes.holder(), Some(first()));
    assert_eq!(nodes.0[1].held().count(), 0);
}

#[test]
fn the_loser_may_have_to_end() {
    let (nodes, outputs) = meet(Resolver::ExitLoser, Resolver::NotifyLoser);
    assert_eq!(conflicts(&outputs), [(second(), first(), true)]);
    assert_eq!(nodes.holder(), Some(first()));
}

#[test]
fn both_may_have_to_go() {
    let (nodes, outputs) = meet(Resolver::NotifyAll, Resolver::NotifyLoser);
    let mut told = conflicts(&outputs);
    told.sort();
    let both = [(first(), second(), false), (second(), first(), false)];
    assert_eq!(told, both);
    assert_eq!(nodes.holder(), None);
}

#[test]
fn an_actor_of_the_smaller_node_decides() {
    let ask = || Resolver::Ask("judge".into());
    let decisions = [
        (Ok(Some(first())), vec![second()], Some(first())),
        (Ok(Some(second())), vec![first()], Some(second())),
        (Ok(None), vec![first(), second()], None),
        (Ok(Some(Nodes::pid(2, 9))), vec![second()], Some(first())),
        (Err(NoVerdict), vec![second()], Some(first())),
    ];
    for (keep, losers, holder) in decisions {
        let (mut nodes, outputs) = meet(ask(), Resolver::NotifyAll);
        let asked = questions(&outputs);
        assert_eq!(asked.len(), 1, "one side alone");
        assert_eq!(conflicts(&outputs), []);
        let (node, question) = asked[0];
        nodes.0[node].handle(NOW, GlobalInput::Verdict { question, keep });
        let mut told: Vec<_> = conflicts(&nodes.rounds(3));
        told.sort();
        let told: Vec<_> = told.into_iter().map(|(loser, _, _)| loser).collect();
        assert_eq!(told, losers, "{keep:?}");
        assert_eq!(nodes.holder(), holder, "{keep:?}");
        assert_eq!(nodes.0[0].next_deadline(), None);
    }
}

#[test]
fn a_resolver_that_says_nothing_is_not_waited_for() {
    let (mut nodes, _) = meet(Resolver::Ask("judge".into()), Resolver::NotifyLoser);
    let deadline = nodes.0[0].next_deadline();
    assert_eq!(deadline, Some(Millis(RESOLVE_TIMEOUT_MS)));
    nodes.0[0].handle(Millis(RESOLVE_TIMEOUT_MS), GlobalInput::Timer);
    assert_eq!(conflicts(&nodes.rounds(3)), [(second(), first(), false)]);
    assert_eq!(nodes.holder(), Some(first()));
    assert_eq!(nodes.0[0].next_deadline(), None);
}

#[test]
fn an_answer_about_holders_that_changed_is_none() {
    // The larger side's holder ends, and another one takes the name, while the question is out.
    let (mut nodes, outputs) = meet(Resolver::Ask("judge".into()), Resolver::NotifyLoser);
    let (node, question) = questions(&outputs)[0];
    nodes.replace(1, 3, 7);
    let outputs = nodes.rounds(8);
    assert_eq!(answers(&outputs), [(3, Ok(()))]);
    assert_eq!(nodes.holder(), Some(Nodes::pid(1, 7)));
    let keep = Ok(Some(first()));
    nodes.0[node].handle(NOW, GlobalInput::Verdict { question, keep });
    assert_eq!(conflicts(&nodes.rounds(3)), []);
    assert_eq!(nodes.holder(), Some(Nodes::pid(1, 7)));
    nodes.assert_nothing_left_over();
}

#[test]
fn a_question_ends_with_the_link() {
    let (mut nodes, _) = meet(Resolver::Ask("judge".into()), Resolver::NotifyLoser);
    nodes.split(&[0], &[1, 2]);
    nodes.rounds(2);
    assert_eq!(nodes.0[0].next_deadline(), None);
    assert_eq!(nodes.0[0].whereis("n"), Some(first()));
    assert_eq!(nodes.0[1].whereis("n"), Some(second()));
    // And is asked again when they meet again.
    nodes.heal(&[0], &[1, 2]);
    assert_eq!(questions(&nodes.rounds(3)).len(), 1);
}

#[test]
fn three_parts_that_meet_keep_one_holder() {
    let mut nodes = Nodes::new(3);
    nodes.split(&[0], &[1, 2]);
    nodes.split(&[1], &[2]);
    nodes.rounds(2);
    (0..3).for_each(|node| nodes.register(node, node as u64, 1));
    nodes.rounds(2);
    nodes.heal(&[0], &[1, 2]);
    nodes.heal(&[1], &[2]);
    nodes.rounds(4);
    assert_eq!(nodes.holder(), Some(first()));
    assert_eq!(nodes.0.iter().flat_map(Global::held).count(), 1);
}
