//! What `OpenShift` asks of pods.

use super::*;

#[test]
fn openshift_lets_the_agent_have_what_its_pod_asks_for_and_nothing_else() {
    let objects = patched("openshift");
    let (rule, pod) = (find(&objects, "SecurityContextConstraints", AGENT), pod(&objects));
    let context = &pod["containers"][0]["securityContext"];
    assert_eq!(rule["allowedCapabilities"], context["capabilities"]["add"]);
    assert_eq!(rule["requiredDropCapabilities"], context["capabilities"]["drop"]);
    // With MustRunAs a pod must also name the level that OpenShift has given to the namespace.
    assert_eq!(rule["seLinuxContext"], json!({ "type": "RunAsAny" }));
    assert_eq!(context["seLinuxOptions"], json!({ "type": "spc_t" }));
    assert_eq!(rule["seccompProfiles"], json!(["runtime/default"]));
    assert_eq!(rule["users"], json!([format!("system:serviceaccount:{NAMESPACE}:{AGENT}")]));
    assert_eq!((&rule["readOnlyRootFilesystem"], &rule["groups"]), (&json!(true), &json!([])));
    for (name, allowed) in rule.as_object().unwrap().iter().filter(|(name, _)| name.starts_with("allow")) {
        let needed = ["allowHostDirVolumePlugin", "allowedCapabilities"].contains(&name.as_str());
        assert!(needed || *allowed == false, "{name}: {allowed}");
    }
}

#[test]
fn openshift_chooses_the_operators_user() {
    let (mut before, after) = (operator(&installer()), operator(&patched("openshift")));
    let context = before["containers"][0]["securityContext"].as_object_mut().unwrap();
    for of_its_own in ["runAsUser", "runAsGroup"] {
        assert!(context.remove(of_its_own).is_some(), "{of_its_own}");
    }
    assert_eq!(after, before);
    assert_eq!(after["containers"][0]["securityContext"]["runAsNonRoot"], true);
}
