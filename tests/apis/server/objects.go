package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	admission "k8s.io/api/admissionregistration/v1"
	definitions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilversion "k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/component-base/version"
)

// decoder knows Kubernetes' own types, definitions of others among them, and takes no field that they do not have.
var decoder = serializer.NewCodecFactory(ownTypes(), serializer.EnableStrict).UniversalDeserializer()

func ownTypes() *runtime.Scheme {
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, definitions.AddToScheme} {
		if err := add(types); err != nil {
			panic(err)
		}
	}
	return types
}

// readDocuments gives each document of a YAML stream that is more than comments.
func readDocuments(from io.Reader, each func([]byte) error) error {
	documents := yaml.NewYAMLReader(bufio.NewReader(from))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if isEmpty(document) {
			continue
		}
		if err := each(document); err != nil {
			return err
		}
	}
}

func isEmpty(document []byte) bool {
	for _, line := range bytes.Split(document, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}

// readStrictly tells of each document what it is, or what is wrong with it, in a line.
func readStrictly(from io.Reader, to io.Writer) error {
	return readDocuments(from, func(document []byte) error {
		object, kind, err := decoder.Decode(document, nil, nil)
		if err == nil {
			err = isServed(object)
		}
		if err != nil {
			_, err = fmt.Fprintln(to, err)
			return err
		}
		_, err = fmt.Fprintf(to, "%s %s\n", kind.GroupVersion(), kind.Kind)
		return err
	})
}

// isServed says why a server of this release does not take what its types still have, or warns of it.
func isServed(object runtime.Object) error {
	ends, ok := object.(interface {
		APILifecycleDeprecated() (major, minor int)
		APILifecycleRemoved() (major, minor int)
	})
	if !ok {
		return nil
	}
	this := utilversion.MustParse(version.Get().GitVersion)
	for _, end := range []struct {
		said string
		by   func() (major, minor int)
	}{{"gone", ends.APILifecycleRemoved}, {"deprecated", ends.APILifecycleDeprecated}} {
		since := utilversion.MajorMinor(numbers(end.by()))
		if this.AtLeast(since) {
			return fmt.Errorf("%s is %s since %s", object.GetObjectKind().GroupVersionKind(), end.said, since)
		}
	}
	return nil
}

func numbers(major, minor int) (uint, uint) { return uint(major), uint(minor) }

// readPolicies reads what the validating policies are made of.
func readPolicies(files []string) ([]runtime.Object, error) {
	var policies []runtime.Object
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		err = readDocuments(file, func(document []byte) error {
			object, kind, err := decoder.Decode(document, nil, nil)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			switch object := object.(type) {
			case *admission.ValidatingAdmissionPolicy:
				setDefaults(object)
			case *admission.ValidatingAdmissionPolicyBinding:
			default:
				return fmt.Errorf("%s: %s is no policy", name, kind)
			}
			policies = append(policies, object)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return policies, nil
}

// setDefaults says what a server that keeps policies says where they say nothing.
func setDefaults(policy *admission.ValidatingAdmissionPolicy) {
	constraints := policy.Spec.MatchConstraints
	if constraints == nil {
		return
	}
	if constraints.MatchPolicy == nil {
		equivalent := admission.Equivalent
		constraints.MatchPolicy = &equivalent
	}
	if constraints.NamespaceSelector == nil {
		constraints.NamespaceSelector = &meta.LabelSelector{}
	}
	if constraints.ObjectSelector == nil {
		constraints.ObjectSelector = &meta.LabelSelector{}
	}
	for i := range constraints.ResourceRules {
		if rule := &constraints.ResourceRules[i].Rule; rule.Scope == nil {
			everywhere := admission.AllScopes
			rule.Scope = &everywhere
		}
	}
}
