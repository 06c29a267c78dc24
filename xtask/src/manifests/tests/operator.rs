//! The operator: its rights, its pod, and how kube-apiserver reaches the lines it serves.

use serde_json::{Value, json};

use super::{AGENT, NAMESPACE, OPERATOR, find, installer, operator, rights};

/// Each role that is bound to an account of ours, and where.
fn roles_of(objects: &[Value], account: &str) -> Vec<String> {
    let mut roles = Vec::new();
    for object in objects.iter().filter(|object| object["kind"].as_str().unwrap().ends_with("Binding")) {
        if object["subjects"]
            == json!([{ "kind": "ServiceAccount", "name": account, "namespace": NAMESPACE }])
        {
            let place = object["metadata"]["namespace"].as_str().unwrap_or("all");
            let role = |key: &str| object["roleRef"][key].as_str().unwrap().to_owned();
            roles.push(format!("{} {} in {place}", role("kind"), role("name")));
        }
    }
    roles
}

#[test]
fn for_the_lines_api_the_operator_may_do_what_is_specified_and_nothing_else() {
    let objects = installer();
    let role = find(&objects, "ClusterRole", "kube-tcpstates-operator-lines");
    assert_eq!(role["rules"][1]["resourceNames"], json!(["v1alpha1.lines.tcpstates.dev"]));
    assert_eq!(role["rules"].as_array().unwrap().len(), 2);
    let mut unnamed = role;
    unnamed["rules"][1].as_object_mut().unwrap().remove("resourceNames");
    let expected = [
        "create authorization.k8s.io/subjectaccessreviews",
        "get apiregistration.k8s.io/apiservices",
        "patch apiregistration.k8s.io/apiservices",
    ];
    assert_eq!(rights(&unnamed), expected);
    let pods = find(&objects, "Role", OPERATOR);
    for right in ["get /pods/log", "list /pods", "watch /pods"] {
        assert!(rights(&pods).iter().any(|given| given == right), "{right}");
    }
}

#[test]
fn the_lines_api_is_reached_at_the_operators_by_tls() {
    let objects = installer();
    let service = find(&objects, "Service", "kube-tcpstates-lines");
    let api = &find(&objects, "APIService", "v1alpha1.lines.tcpstates.dev")["spec"];
    assert_eq!(api["insecureSkipTLSVerify"], false);
    assert!(api.get("caBundle").is_none(), "applying the installer again must not take the operators' away");
    let port = &service["spec"]["ports"][0];
    let reached = json!({ "name": "kube-tcpstates-lines", "namespace": NAMESPACE, "port": port["port"] });
    assert_eq!(api["service"], reached);
    let pod = &find(&objects, "Deployment", OPERATOR)["spec"]["template"];
    let labels = pod["metadata"]["labels"].as_object().unwrap();
    for (key, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(labels.get(key), Some(value));
    }
    let ports = pod["spec"]["containers"][0]["ports"].as_array().unwrap();
    assert!(ports.iter().any(|named| named["name"] == port["targetPort"] && named["containerPort"] == 9443));
}

#[test]
fn the_operator_may_do_what_is_specified_and_nothing_else() {
    let everywhere = [
        "create events.k8s.io/events",
        "list /nodes",
        "list tcpstates.dev/clustertcpstatetraces",
        "list tcpstates.dev/tcpstatenodes",
        "list tcpstates.dev/tcpstatetraces",
        "patch events.k8s.io/events",
        "patch tcpstates.dev/clustertcpstatetraces/status",
        "patch tcpstates.dev/tcpstatetraces/status",
        "watch /nodes",
        "watch tcpstates.dev/clustertcpstatetraces",
        "watch tcpstates.dev/tcpstatenodes",
        "watch tcpstates.dev/tcpstatetraces",
    ];
    let in_its_namespace = [
        "create coordination.k8s.io/leases",
        "get /pods/log",
        "get coordination.k8s.io/leases kube-tcpstates-operator",
        "list /pods",
        "patch coordination.k8s.io/leases kube-tcpstates-operator",
        "watch /pods",
    ];
    let objects = installer();
    assert_eq!(rights(&find(&objects, "ClusterRole", OPERATOR)), everywhere);
    let role = find(&objects, "Role", OPERATOR);
    assert_eq!(role["metadata"]["namespace"], NAMESPACE);
    assert_eq!(rights(&role), in_its_namespace);
    assert_eq!(operator(&objects)["serviceAccountName"], OPERATOR);
}

#[test]
fn each_program_has_its_own_rights_and_nobody_else_has_any() {
    let objects = installer();
    let of_operator = [
        format!("ClusterRole {OPERATOR} in all"),
        format!("Role {OPERATOR} in {NAMESPACE}"),
        format!("ClusterRole {OPERATOR}-lines in all"),
        "Role extension-apiserver-authentication-reader in kube-system".to_owned(),
    ];
    assert_eq!(roles_of(&objects, AGENT), [format!("ClusterRole {AGENT} in all")]);
    assert_eq!(roles_of(&objects, OPERATOR), of_operator);
    let bindings = objects.iter().filter(|object| object["kind"].as_str().unwrap().ends_with("Binding"));
    assert_eq!(bindings.count(), 1 + of_operator.len());
}

#[test]
fn the_operator_gets_nothing_of_the_node_it_runs_on() {
    let pod = operator(&installer());
    let expected = json!({
        "runAsNonRoot": true,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "privileged": false,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    assert_eq!(pod["containers"][0]["securityContext"], expected);
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    for absent in ["initContainers", "securityContext", "hostPID", "hostNetwork", "hostIPC", "volumes"] {
        assert!(pod.get(absent).is_none(), "{absent}");
    }
}

#[test]
fn two_operators_run_on_two_nodes_where_there_are_two() {
    let objects = installer();
    let (deployment, pod) = (find(&objects, "Deployment", OPERATOR), operator(&objects));
    assert_eq!(deployment["spec"]["replicas"], 2);
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], *labels);
    let apart = &pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(apart["podAffinityTerm"]["labelSelector"]["matchLabels"], *labels);
    assert_eq!(apart["podAffinityTerm"]["topologyKey"], "kubernetes.io/hostname");
    let terms = pod.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution");
    let image_runs = json!([
        { "key": "kubernetes.io/os", "operator": "In", "values": ["linux"] },
        { "key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"] },
    ]);
    assert_eq!(terms.unwrap()["nodeSelectorTerms"], json!([{ "matchExpressions": image_runs }]));
    let container = &pod["containers"][0];
    assert_eq!(container["command"], json!(["/kube-tcpstates-operator"]));
    let port = |probe: &str| container[probe]["httpGet"].clone();
    assert_eq!(port("livenessProbe"), json!({ "path": "/livez", "port": "metrics" }));
    assert_eq!(port("readinessProbe"), json!({ "path": "/readyz", "port": "metrics" }));
    // Writes under way and the Lease take up to 4 s each.
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > 8);
    let resources = &container["resources"];
    assert!(resources["limits"].get("memory").is_some() && resources["requests"].get("cpu").is_some());
}
