# SPDX-License-Identifier: MIT
"""The start actions: shell items one after another, stage items at the head all at once."""

import shutil

import pytest
from archives import file, noise, tar
from faultserver import rate
from stopwatch import Stopwatch


def config(stagerun, *items, more=""):
    """config.yml with these start actions (YAML of each item). The first item's line is 5."""
    lines = "\n".join(f"        - {item}" for item in items)
    return stagerun.config("compute:\n  train:\n    actions:\n      on_experiment_start:\n"
                           f"{lines}\n{more}")


def run(stagerun, *items, command=("true",), **how):
    return stagerun.run("run", "--config", config(stagerun, *items), "--", *command, **how)


def test_items_run_in_order_before_the_command(stagerun):
    result = run(stagerun, "echo one", "echo two", command=["echo", "three"]).ok()
    assert result.out == "one\ntwo\nthree\n"


def test_the_working_directory_is_shared_and_cd_does_not_persist(stagerun):
    (stagerun.cwd / "sub").mkdir()
    result = run(stagerun, "cd sub && touch here", "pwd", command=["ls", "sub"]).ok()
    assert result.out == f"{stagerun.cwd}\nhere\n"


def test_a_block_is_one_shell_with_variables_and_globs(stagerun):
    result = run(stagerun, "|\n          x=1\n          y=\"a  b\"\n"
                           "          echo $x \"$y\" && echo done || echo not").ok()
    assert result.out == "1 a  b\ndone\n"


def test_a_failing_line_in_the_middle_ends_the_item(stagerun):
    result = run(stagerun, "|\n          false\n          echo never\n",
                 command=["touch", "ran"]).failed(125, "action 1", r"config\.yml:5", "status 1")
    assert "never" not in result.out
    assert not (stagerun.cwd / "ran").exists()


def test_a_guarded_line_may_fail(stagerun):
    assert run(stagerun, "false || echo skip").ok().out == "skip\n"


def test_a_failure_names_the_item_its_line_and_status(stagerun):
    result = run(stagerun, "'true'", "exit 3", "touch ran", command=["touch", "ran"])
    result.failed(125, "on_experiment_start", "action 2", r"config\.yml:6", "status 3")
    assert not (stagerun.cwd / "ran").exists()


def test_a_signal_that_ends_an_item_is_named(stagerun):
    run(stagerun, "kill -SEGV $$").failed(125, "action 1", "signal 11|Segmentation")


def test_variables_travel_through_the_environment_file(stagerun):
    result = run(stagerun, "echo NAME=two words >> $STAGERUN_ENV", "echo $NAME",
                 "echo NAME=other >> \"$STAGERUN_ENV\"",
                 command=["sh", "-c", 'echo "$NAME" "${STAGERUN_ENV-unset}"']).ok()
    assert result.out == "two words\nother unset\n"
    assert list(stagerun.tmp.iterdir()) == []


def test_an_invalid_line_in_the_environment_file_is_warned_of(stagerun):
    result = run(stagerun, "echo 'not a variable' >> $STAGERUN_ENV").ok()
    assert "not a variable" in result.err or "line 1" in result.err


def test_output_passes_through_as_it_comes(stagerun):
    result = run(stagerun, "printf partial; printf error >&2").ok()
    assert result.out == "partial" and "error" in result.err


def test_lines_are_prefixed_on_request(stagerun):
    stagerun.configure(actions={"prefix_output": "yes"})
    result = run(stagerun, "'true'", "'printf \"a\\nb\"'").ok()
    lines = (result.out + result.err).splitlines()
    prefixed = [line for line in lines if line.startswith("[") and "2]" in line]
    assert [line.rpartition("] ")[2] for line in prefixed] == ["a", "b"]


def test_an_item_that_takes_too_long_is_ended_with_all_it_started(stagerun, slowness):
    result = run(stagerun, "{run: 'sleep 60 & sleep 60', timeout: 300ms}").failed(
        125, "action 1", "300 ?ms|timed? out|timeout")
    assert result.seconds < 5 * slowness
    assert stagerun.leftovers() == []


def test_the_settings_timeout_is_the_default_of_all_items(stagerun):
    stagerun.configure(actions={"timeout": "300ms"})
    run(stagerun, "sleep 60").failed(125, "action 1")


def test_an_item_is_tried_again(stagerun):
    result = run(stagerun, "{run: 'echo try; test -e marker || { touch marker; exit 1; }', "
                           "retries: 2}").ok()
    assert result.out == "try\ntry\n"


def test_retries_end(stagerun):
    result = run(stagerun, "{run: 'echo try; exit 4', retries: 1}").failed(
        125, "action 1", "status 4")
    assert result.out == "try\ntry\n"


def test_an_item_leaves_no_process_behind(stagerun):
    run(stagerun, "sleep 300 >/dev/null 2>&1 &").ok()
    assert stagerun.leftovers() == []


def test_a_background_child_that_holds_the_pipe_does_not_hang_the_run(stagerun, slowness):
    stagerun.configure(actions={"prefix_output": "yes"})
    result = run(stagerun, "setsid sleep 30 & echo started").ok()
    assert result.seconds < 5 * slowness


def test_the_shell_is_bash_when_there_is_one(stagerun):
    if not shutil.which("bash"):
        pytest.skip("no bash")
    assert run(stagerun, "echo ${BASH_VERSION:+bash}").ok().out == "bash\n"


def test_a_pipe_fails_with_its_first_part(stagerun):
    result = run(stagerun, '"false | cat"', "echo next").failed(125, r"false \| cat", "status 1")
    assert "next" not in result.out


def test_shell_options_are_the_operators_to_choose(stagerun):
    stagerun.configure(hooks={"shell_options": ""})
    assert run(stagerun, '"false | cat; echo ran"').ok().out == "ran\n"
    stagerun.configure(hooks={"shell_options": "nounset  noglob"})
    flags = run(stagerun, "echo $-").ok().out
    assert "u" in flags and "f" in flags and "e" in flags


def test_a_shell_that_may_not_know_pipefail_does_not_get_it(stagerun):
    stagerun.configure(actions={"shell": "/bin/sh"})
    assert run(stagerun, '"false | cat; echo ran"').ok().out == "ran\n"


def test_the_shell_is_sh_when_there_is_no_bash(stagerun):
    tools = stagerun.directory / "bin"
    tools.mkdir()
    for tool in ("sh", "true"):
        (tools / tool).symlink_to(shutil.which("dash" if tool == "sh" else tool) or "/bin/sh")
    result = run(stagerun, "echo ${BASH_VERSION:-sh}", env={"PATH": str(tools)}).ok()
    assert result.out == "sh\n"


def test_the_shell_can_be_set(stagerun):
    shell = stagerun.directory / "shell"
    shell.write_text("#!/bin/sh\necho mine\nexec /bin/sh \"$@\"\n")
    shell.chmod(0o755)
    stagerun.configure(actions={"shell": shell})
    assert run(stagerun, "echo item").ok().out == "mine\nitem\n"


def test_stage_items_at_the_head_run_at_once(stagerun, server, dest, slowness):
    served = [server.put(f"/{i}.tar", tar(file("data", noise(300_000, i))), rate(300_000))
              for i in range(4)]
    watch = Stopwatch()
    run(stagerun, *(f"stage: {{source: '{s.url}', to: '{dest}/{i}'}}"
                    for i, s in enumerate(served)), f"test -e {dest}/3/data").ok()
    assert watch.read() < 2.5 * slowness  # one after another: 4 s


def test_the_first_shell_item_waits_for_all_stage_items_at_the_head(stagerun, server, dest):
    slow = server.put("/slow.tar", tar(file("slow", noise(200_000))), rate(250_000))
    fast = server.put("/fast.tar", tar(file("fast")))
    result = run(stagerun, f"stage: {{source: '{slow.url}', to: '{dest}/s'}}",
                 f"stage: {{source: '{fast.url}', to: '{dest}/f'}}", f"ls {dest}/s {dest}/f").ok()
    assert result.out.split() == [f"{dest}/f:", "fast", f"{dest}/s:", "slow"]


def test_a_later_stage_item_takes_its_turn(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a")))
    result = run(stagerun, f"test ! -e {dest} && echo before",
                 f"stage: {{source: '{served.url}', to: '{dest}'}}", f"ls {dest}").ok()
    assert result.out == "before\na\n"


def test_a_stage_item_that_fails_ends_the_run_and_names_its_line(stagerun, server, dest):
    result = run(stagerun, f"stage: {{source: '{server.url('/gone')}', to: '{dest}'}}",
                 "touch ran", command=["touch", "ran"])
    result.failed(125, "/gone", "404", r"config\.yml:5")
    assert not (stagerun.cwd / "ran").exists()


def test_a_later_stage_item_that_fails_says_why(stagerun, server, dest):
    run(stagerun, "true", f"stage: {{source: '{server.url('/gone')}', to: '{dest}'}}").failed(
        125, r"action 2 \(.*config\.yml:6\) failed: .*404", "/gone")


def test_a_later_stage_item_sees_variables_of_earlier_items(stagerun, server, dest):
    server.put("/x.tar", tar(file("a")))
    run(stagerun, f"echo WHERE={dest} >> $STAGERUN_ENV",
        f"stage: {{source: '{server.url('/x.tar')}', to: '${{WHERE}}'}}").ok()
    assert (dest / "a").exists()


def test_prewarm_stages_the_head_only_and_says_so(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a")))
    path = config(stagerun, f"stage: {{source: '{served.url}', to: '{dest}'}}", "touch ran",
                  f"stage: {{source: '{served.url}', to: '{dest}-2'}}")
    result = stagerun.run("prewarm", "--config", path).ok()
    assert (dest / "a").exists()
    assert not (stagerun.cwd / "ran").exists() and not (dest.parent / "dest-2").exists()
    assert "action" in result.err


def test_items_do_not_inherit_descriptors_of_the_agent(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a")))
    result = run(stagerun, f"stage: {{source: '{served.url}', to: '{dest}'}}",
                 "ls /proc/self/fd").ok()
    # 3 is ls's own directory.
    assert result.out.split() == ["0", "1", "2", "3"]
