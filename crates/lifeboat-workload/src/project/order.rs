//! In which order containers are started, and what each waits for.
//!
//! Must stay true: whoever is needed comes first; a circle does not keep anybody from being started.

use super::{DEPENDS_ON, SERVICE};
use crate::facts::Facts;

/// What has to be true of a container before another is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It runs.
    Started,
    /// Its health check says so.
    Healthy,
    /// It ended with 0.
    Completed,
}

/// One container's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which of the containers.
    pub number: usize,
    /// What it waits for: numbers of others, and their conditions.
    pub needs: Vec<(usize, Condition)>,
}

/// The order of all containers: by what they need, then as they are given.
pub fn order(all: &[Facts]) -> Vec<Place> {
    let needs: Vec<Vec<(usize, Condition)>> = all.iter().map(|facts| needs(facts, all)).collect();
    let mut placed: Vec<Place> = Vec::new();
    while placed.len() < all.len() {
        let is_placed = |number: usize| placed.iter().any(|place| place.number == number);
        let waiting = (0..all.len()).filter(|number| !is_placed(*number));
        let ready = |number: &usize| needs[*number].iter().all(|(other, _)| is_placed(*other));
        // In a circle somebody has to begin.
        let next = waiting.clone().find(ready).or_else(|| waiting.clone().next());
        let Some(number) = next else { break };
        placed.push(Place { number, needs: needs[number].clone() });
    }
    placed
}

fn needs(facts: &Facts, all: &[Facts]) -> Vec<(usize, Condition)> {
    let mut found = Vec::new();
    let mut add = |number: usize, condition| {
        if all[number].id != facts.id && !found.iter().any(|(other, _)| *other == number) {
            found.push((number, condition));
        }
    };
    for part in facts.label(DEPENDS_ON).unwrap_or_default().split(',') {
        let mut words = part.split(':');
        let (Some(service), condition) = (words.next().filter(|word| !word.is_empty()), words.next()) else {
            continue;
        };
        let condition = match condition {
            Some("service_healthy") => Condition::Healthy,
            Some("service_completed_successfully") => Condition::Completed,
            _ => Condition::Started,
        };
        let of_service = |other: &&(usize, &Facts)| other.1.label(SERVICE) == Some(service);
        for (number, _) in all.iter().enumerate().collect::<Vec<_>>().iter().filter(of_service) {
            add(*number, condition);
        }
    }
    for word in facts.network_of.iter().chain(&facts.needs) {
        if let Some(number) = all.iter().position(|other| other.is_called(word)) {
            add(number, Condition::Started);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::running;

    fn service(name: &str, depends_on: &str) -> Facts {
        let mut facts = running(name);
        facts.id = format!("{name:0>64}");
        facts.labels.insert(SERVICE.into(), name.into());
        facts.labels.insert(DEPENDS_ON.into(), depends_on.into());
        facts
    }

    fn names(all: &[Facts]) -> Vec<&str> {
        order(all).iter().map(|place| all[place.number].name.as_str()).collect()
    }

    #[test]
    fn whoever_is_needed_comes_first() {
        let all = [
            service("web", "api:service_healthy:false,cache:service_started:true"),
            service("api", "db:service_healthy:false"),
            service("cache", ""),
            service("db", "migrate:service_completed_successfully:false"),
            service("migrate", "gone:service_started:false"),
        ];
        assert_eq!(names(&all), ["cache", "migrate", "db", "api", "web"]);
        let web = order(&all).pop().map(|place| place.needs);
        assert_eq!(web, Some(vec![(1, Condition::Healthy), (2, Condition::Started)]));
    }

    #[test]
    fn another_ones_network_is_needed_too() {
        let mut sidecar = service("a-sidecar", "");
        sidecar.network_of = Some("main".into());
        assert_eq!(names(&[sidecar, service("main", "")]), ["main", "a-sidecar"]);
    }

    #[test]
    fn a_circle_ends() {
        let all = [service("a", "b:service_started:false"), service("b", "a:service_started:false")];
        assert_eq!(names(&all), ["a", "b"]);
    }
}
