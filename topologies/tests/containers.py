"""Prints what the containers of the application are started with, as JSON.

usage: containers.py FOLDER, which has compose.yaml and kubernetes/
"""
import json
import pathlib
import re
import sys

import yaml

FOLDER = pathlib.Path(sys.argv[1])


def compose():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        if service["image"] == "aggregator":
            yield {
                "place": f"compose {name}",
                "environment": {key: str(value) for key, value in service["environment"].items()},
                "read_only": service.get("read_only", False),
                "user": None,
            }


def kubernetes():
    documents = [
        document
        for file in sorted((FOLDER / "kubernetes").glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
    ]
    named = {(document["kind"], document.get("metadata", {}).get("name")): document for document in documents}
    for (kind, name), document in named.items():
        if kind not in ("Job", "StatefulSet"):
            continue
        pod = document["spec"]["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])}
        for container in pod["containers"]:
            environment = {}
            for source in container["envFrom"]:
                if "configMapRef" in source:
                    environment |= named["ConfigMap", source["configMapRef"]["name"]]["data"]
                else:
                    environment |= named["Secret", source["secretRef"]["name"]]["stringData"]
            for variable in container.get("env", []):
                # The first pod's.
                value = variable.get("value", f"{name}-0")
                environment[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda found: environment[found[1]], value)
            missing = {mount["name"] for mount in container["volumeMounts"]} - volumes
            assert not missing, f"{kind} {name} mounts {missing}, which it does not have"
            yield {
                "place": f"{kind} {name}",
                "environment": environment,
                "read_only": container["securityContext"]["readOnlyRootFilesystem"],
                "user": pod["securityContext"]["runAsUser"],
            }


print(json.dumps([*compose(), *kubernetes()]))
