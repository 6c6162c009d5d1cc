#!/bin/bash
{{directives}}

# Job of the study {{study}}, made by paretoseg launch; cluster.template replaces its template.
trap '' USR1  # the signal before the time limit means something only once the study runs
{{setup}}
exec {{command}}
