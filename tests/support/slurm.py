"""A cluster of one machine: Slurm's commands behind SSH, as a connector meets them on a login node."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh

# What a job is: `jobs/ID.pid` while it runs, and then `jobs/ID.end` with its state and exit code as `sacct` shows them.
_COMMANDS = {
    "sbatch": """
        script="${@: -1}"
        id=$(($(ls "$JOBS" | grep -c script) + 1))
        cp "$script" "$JOBS/$id.script"
        out=$(sed -n 's/^#SBATCH --output=//p' "$script"); err=$(sed -n 's/^#SBATCH --error=//p' "$script")
        setsid bash -c '
            bash "$0" >"$1" 2>"$2"; code=$?
            state=COMPLETED; [ $code = 0 ] || state=FAILED
            echo "$state|$code:0" >"$3.new" && mv -n "$3.new" "$3.end"
        ' "$script" "$out" "$err" "$JOBS/$id" </dev/null >/dev/null 2>&1 &
        echo $! >"$JOBS/$id.pid"
        echo "$id"
    """,
    "squeue": """
        while [ "$1" != -j ]; do shift; done
        for id in ${2//,/ }; do
            [ -e "$JOBS/$id.end" ] || { [ -e "$JOBS/$id.pid" ] && echo "$id|RUNNING|None"; }
        done
        exit 0
    """,
    "sacct": """
        while [ "$1" != -j ]; do shift; done
        for id in ${2//,/ }; do
            [ -e "$JOBS/$id.end" ] && echo "$id|$(cat "$JOBS/$id.end")|None"
        done
        exit 0
    """,
    "scancel": """
        [ -e "$JOBS/$1.pid" ] || { echo "scancel: error: Invalid job id $1" >&2; exit 1; }
        [ -e "$JOBS/$1.end" ] && exit 0
        echo "CANCELLED by 1000|0:15" >"$JOBS/$1.end"
        kill -- "-$(cat "$JOBS/$1.pid")"
    """,
}


@dataclass(frozen=True)
class Cluster:
    """Where the login node is, and what a client needs to come in."""

    port: int
    folder: Path
    private_key: str
    known_hosts: Path

    @property
    def connection(self) -> dict[str, object]:
        """What a task says of the cluster."""
        return {"host": "127.0.0.1", "port": self.port, "username": "me", "known_hosts": str(self.known_hosts)}


@asynccontextmanager
async def slurm_cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Serve a login node on loopback until the block ends, and end the jobs that still run then."""
    commands, jobs = folder / "bin", folder / "jobs"
    for made in (commands, jobs):
        made.mkdir(parents=True)
    for name, text in _COMMANDS.items():
        (commands / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (commands / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "JOBS": str(jobs), "HOME": str(folder)}

    async def run(process: "asyncssh.SSHServerProcess[str]") -> None:
        child = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            process.command or "true",
            env=environment,
            stdout=-1,
            stderr=-1,
            stdin=asyncio.subprocess.DEVNULL,
        )
        out, error = await child.communicate()
        process.stdout.write(out.decode())
        process.stderr.write(error.decode())
        process.exit(child.returncode or 0)

    host_key, client_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    authorized = asyncssh.import_authorized_keys(client_key.export_public_key().decode())
    clients: list[asyncssh.SSHServerConnection] = []
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=authorized,
        process_factory=run,
        sftp_factory=True,
        acceptor=clients.append,
    )
    port = server.get_port()
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}")
    try:
        yield Cluster(port, folder, client_key.export_private_key().decode(), known_hosts)
    finally:
        for pid in jobs.glob("*.pid"):
            if not pid.with_suffix(".end").exists():
                await (
                    await asyncio.create_subprocess_exec(str(commands / "scancel"), pid.stem, env=environment)
                ).wait()
        for client in clients:
            client.close()
            await client.wait_closed()
        server.close()
        await server.wait_closed()
