"""The outputs don't depend on the libm of the system: another rounding gives the same bytes."""

import math
import shutil
from pathlib import Path

import pytest

from tests.conftest import Clone
from tests.test_other_cpus import RUN_STAGES, hash_outputs

# What IEEE 754 leaves open. It rounds the square root, so that is the same everywhere.
OF_ONE = """
    exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan
    sinh cosh tanh asinh acosh atanh cbrt erf erfc lgamma tgamma
"""
OF_TWO = "pow atan2 hypot"

HEADER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
void sincos(double x, double *sine, double *cosine) { *sine = sin(x); *cosine = cos(x); }
void sincosf(float x, float *sine, float *cosine) { *sine = sinf(x); *cosine = cosf(x); }
"""
# Off by one unit in the last place, but where the result is exact: cos(0) is 1 in every libm.
FUNCTION = """
{type} {name}{suffix}({parameters}) {{
    static {type} (*original)({parameters});
    if (!original) original = dlsym(RTLD_NEXT, "{name}{suffix}");
    {type} result = original({arguments});
    return result == rint(result) ? result : nextafter{suffix}(result, INFINITY);
}}
"""
PRINT_SOME = "import math; print(math.pow(2, 0.5), math.exp(1), math.log(2), math.cos(1))"
LENET5 = ("check", "fetch", "split", "train lenet5", "evaluate lenet5", "predict lenet5")


pytestmark = pytest.mark.slow


@pytest.fixture
def other_libm(tmp_path: Path, source: Clone) -> str:
    """A library to preload, whose functions round another way."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("cc is missing: apt-get install gcc")
    functions = [
        FUNCTION.format(
            type=kind,
            name=name,
            suffix=suffix,
            parameters=", ".join(f"{kind} {argument}" for argument in arguments),
            arguments=", ".join(arguments),
        )
        for names, arguments in ((OF_ONE, "x"), (OF_TWO, "xy"))
        for name in names.split()
        for kind, suffix in (("double", ""), ("float", "f"))
    ]
    code, library = tmp_path / "libm.c", tmp_path / "libm.so"
    code.write_text(HEADER + "".join(functions))
    source.run(compiler, "-shared", "-fPIC", "-fno-builtin", f"{code}", "-o", f"{library}", "-lm")
    return str(library)


def test_a_libm_that_rounds_another_way_gives_the_same_outputs(
    fresh: Clone, built: Clone, other_libm: str
) -> None:
    done = fresh.run("python", "-c", PRINT_SOME + RUN_STAGES, *LENET5, LD_PRELOAD=other_libm)
    usual = [math.pow(2, 0.5), math.exp(1), math.log(2), math.cos(1)]
    assert done.stdout.splitlines()[0].split() == [repr(math.nextafter(x, 3)) for x in usual]
    expected = {path: digest for path, digest in hash_outputs(built).items() if "two_" not in path}
    assert hash_outputs(fresh) == expected
