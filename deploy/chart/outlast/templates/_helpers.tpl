{{/* The image of all pods. */}}
{{- define "outlast.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A setting as text: Helm reads 1000000 as a number, and would write 1e+06. */}}
{{- define "outlast.setting" -}}
{{- if kindIs "string" . -}}
{{ . | quote }}
{{- else -}}
{{ . | toJson | quote }}
{{- end -}}
{{- end -}}
