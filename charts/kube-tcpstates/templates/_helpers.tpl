{{/* A file of manifests/base as it is there, in the namespace of the values. Takes a list: the root, the file's name. */}}
{{- define "kube-tcpstates.base" -}}
{{- $root := index . 0 -}}
{{- $text := $root.Files.Get (printf "base/%s" (index . 1)) | required (printf "the chart has no base/%s" (index . 1)) -}}
{{- $text | replace "namespace: kube-tcpstates\n" (printf "namespace: %s\n" $root.Values.namespace.name) -}}
{{- end -}}

{{/* The one image, by digest where there is one. */}}
{{- define "kube-tcpstates.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* By which a component's pods are found. Takes the component. */}}
{{- define "kube-tcpstates.labels" -}}
app.kubernetes.io/name: kube-tcpstates
app.kubernetes.io/component: {{ . }}
{{- end -}}

{{/* What both components' pods may be given. Takes a list: the root, the component's values. */}}
{{- define "kube-tcpstates.pod" -}}
{{- with (index . 0).Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (index . 1).nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (index . 1).tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (index . 1).priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* A resource of the Prometheus Operator from deploy/prometheus. Takes a list: the root, the file's name, labels to add. */}}
{{- define "kube-tcpstates.monitoring" -}}
{{- $root := index . 0 -}}
{{- $resource := $root.Files.Get (printf "prometheus/%s" (index . 1)) | fromYaml -}}
{{- $_ := set $resource.metadata "namespace" $root.Values.namespace.name -}}
{{- $_ := set $resource.metadata "labels" (merge $resource.metadata.labels (index . 2)) -}}
{{- toYaml $resource -}}
{{- end -}}
