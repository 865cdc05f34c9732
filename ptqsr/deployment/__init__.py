"""Quantized networks in integers: a Plan, and the program that carries it out."""

from ptqsr.deployment.describe import describe, other_steps
from ptqsr.deployment.network import DeployedNetwork, deploy, plan
from ptqsr.deployment.program import program
from ptqsr.deployment.store import Store

__all__ = ["DeployedNetwork", "Store", "deploy", "describe", "other_steps", "plan", "program"]
