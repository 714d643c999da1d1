"""Our scheduler on a document: one `novella evaluate --stdin` that is kept running and answers a line with a line."""

import json
import subprocess


class Unanswered(Exception):
    """The document was refused as a whole, or the program ended."""


class Novella:
    """Answers documents."""

    def __init__(self, binary):
        command = [binary, "evaluate", "--stdin"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)

    def decide(self, document):
        """The `results` of a document."""
        # Nova is asked without a Placement service.
        document = {**document, "options": {"placement": False, **document["options"]}}
        self.process.stdin.write(json.dumps(document, ensure_ascii=False) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Unanswered(f"novella ended with exit code {self.process.wait(30)}")
        answer = json.loads(line)
        if "results" not in answer:
            raise Unanswered(json.dumps(answer, ensure_ascii=False))
        return answer["results"]
