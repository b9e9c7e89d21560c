"""`python -m lotus_ray`: the command line."""

from lotus_ray.cli.main import main

main(prog_name="python -m lotus_ray")
